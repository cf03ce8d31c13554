//! Bytes to packets and back: the codecs of both protocols, stateless and without I/O.

pub mod mqtt;
