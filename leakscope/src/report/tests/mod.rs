//! Whole reports, compared with what they are meant to say; and what no report, table or JSON may ever contain.

mod fixtures;
mod hostile;
mod json;
mod layout;
mod left_alone;
mod prevention;
mod reports;
mod rhythm;
mod writing;
