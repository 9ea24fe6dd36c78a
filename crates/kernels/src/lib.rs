//! Arithmetic on quantized weights, and the thread pool. All unsafe code of the project lives here.
