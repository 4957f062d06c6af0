//! Placeholder until rustables is looked at.
