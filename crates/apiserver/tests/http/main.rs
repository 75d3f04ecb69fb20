//! The server's contract over HTTP, with real clients: kube-rs, and kubectl where there is one.

mod access;
mod admission;
mod harness;
mod kubectl;
mod objects;
mod paths;
mod pods;
