//! Tests of the block bookkeeping.
