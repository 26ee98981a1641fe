//! No opt-in, no mail; who opted out stays out.

mod audiences;
mod displaced;
mod histories;
mod opt_ins;
mod opt_outs;
mod same_address;
mod suppression;
mod words;
