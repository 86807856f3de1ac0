// Rendered from gateway/src/dialect/contracts by `make docs`; not written by hand.
export {};
