"""Amazon Review Data (2018): product reviews, what the shop knows of products, and pictures.

    files.py      which files there are; their lines as JSON objects
    reviews.py    one line becomes a review
    scan.py       the first reading: what is wrong, which reviews count, and their splits
    groups.py     copies of one review, and which reviews must stay in one split
    pictures.py   the folder of pictures and its manifest
    command.py    `amazon`: the prepared data set
    images.py     `amazon-images`: what pictures there are to fetch, and in which order
    fetch.py      fetching many addresses politely

Source: J. Ni, J. Li, J. McAuley, "Justifying recommendations using distantly-labeled reviews and
fine-grained aspects", EMNLP 2019.
"""
