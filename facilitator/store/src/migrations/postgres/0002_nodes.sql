-- Whoever takes up a book reads the channels of its pages, and of no others. Neither column changes while a channel stands, so
-- that a call still touches no index.
CREATE INDEX channel_of_page ON channel (page) WHERE NOT over;
