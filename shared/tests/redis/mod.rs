mod append;
mod bells;
mod connections;
mod cursors;
mod faults;
mod fleets;
mod reading;
mod support;
