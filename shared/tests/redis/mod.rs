mod append;
mod bells;
mod cursors;
mod faults;
mod fleets;
mod reading;
mod receipts;
mod support;
