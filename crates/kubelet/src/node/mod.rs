//! The node's own object: what it is ([`facts`]), how it is ([`status`]), what is too little of it ([`eviction`]), and
//! that it lives ([`lease`]).

pub(crate) mod eviction;
pub(crate) mod facts;
pub(crate) mod lease;
pub(crate) mod register;
pub(crate) mod status;
