//! That the journal can read what is sent, and that each event and field is what the documents say.

mod documented;
mod events;
mod protocol;
