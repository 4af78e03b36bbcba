//! Answers requests from recorded entries.
