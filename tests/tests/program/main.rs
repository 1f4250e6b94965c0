//! The released program in a virtual machine, instruction by instruction: what each does, and everything it refuses.

mod add_page;
mod batches;
mod claim;
mod forgeries;
mod init_book;
mod mints;
mod open;
mod payout;
mod refund;
mod request_close;
mod vectors;
mod withdraw;
mod world;
