//! The control file, as `pg_controldata` prints it.

use super::{Instance, PgError};
use crate::model::Control;

impl Instance {
    /// What the control file says. Right for a stopped server; of a running one it is the last checkpoint.
    ///
    /// # Errors
    /// [`PgError`].
    pub async fn control(&self) -> Result<Control, PgError> {
        todo!()
    }
}
