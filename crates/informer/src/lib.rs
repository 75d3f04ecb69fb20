//! One watch per kind, shared by everyone in the process, and the queue that turns its events into work.
//!
//! An [`Informer`] keeps every object of one kind as `Arc<K>`, fed by a single [`Feed`]. Whoever needs the kind
//! registers a callback with [`Informer::on_change`]; the callback only puts a key into a [`WorkQueue`], and the
//! worker behind the queue reads the latest state from the informer. So nothing buffers objects, a burst of events
//! for one object is one piece of work, and a missed or repeated event does no harm.
//!
//! *Architecture invariant:* nobody opens a watch of his own for a kind that is already in [`Informers`].

pub mod election;
pub mod events;
mod feed;
mod figures;
mod index;
mod informer;
mod queue;
mod unowned;

pub use election::Candidate;
pub use events::{EventRecorder, EventType};
pub use feed::{Feed, Hearer, Told};
pub use figures::Queues;
pub use index::Index;
pub use informer::{Informer, Informers, ObjectKey, Selection, Watched};
pub use queue::{Backoff, WorkQueue};
pub use unowned::{read, read_metadata};
