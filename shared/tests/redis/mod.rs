mod append;
mod bells;
mod cursors;
mod faults;
mod fleets;
mod limits;
mod reading;
mod support;
