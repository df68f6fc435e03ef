//! What keeps tenants apart, tried from every side that we could think of.
//!
//! `attacks` is a table of hostile statements, each sent through the door and, as if the door had a
//! hole, raw: so it is known for each whether the database stops it or the door alone. The README's
//! security table is this table in words. `leaks` looks at what the next borrower of a connection finds.
//! `door` has the rules of `pg::scope` one by one. `crowd` does everything at once.
//!
//! Found another way round? A line in the table first.

mod attacks;
mod crowd;
mod door;
pub mod house;
mod leaks;
