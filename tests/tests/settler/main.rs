//! The settler against a real local chain: the released program behind real JSON-RPC.

mod faults;
mod faulty;
mod life;
mod world;
