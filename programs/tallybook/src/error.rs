//! Why an instruction fails.

use anchor_lang::error::AnchorError;
use anchor_lang::prelude::*;
use tallybook_rules::Rejection;

/// A rejection of the rules, or an error of Anchor, the runtime or the token program.
#[derive(Debug)]
pub enum Failure {
    /// Reported as the error number [`Rejection::ANCHOR_OFFSET`] + [`Rejection::code`].
    Rejected(Rejection),
    /// Reported as it is.
    Failed(Error),
}

impl From<Rejection> for Failure {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<ProgramError> for Failure {
    fn from(error: ProgramError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<Failure> for Error {
    // Out of line, or each check of each account would have a copy of it.
    #[cold]
    #[inline(never)]
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Failed(error) => error,
            Failure::Rejected(rejection) => AnchorError {
                error_name: format!("{rejection:?}"),
                error_code_number: Rejection::ANCHOR_OFFSET.saturating_add(rejection.code().into()),
                error_msg: rejection.advice().to_owned(),
                error_origin: None,
                compared_values: None,
            }
            .into(),
        }
    }
}

/// Lists every rejection in the IDL, in the section that Anchor's `#[error_code]` would print for an enum of its own.
#[cfg(all(test, feature = "idl-build"))]
#[test]
fn __anchor_private_print_idl_error_rejections() {
    use anchor_lang::idl::serde_json;
    use anchor_lang::idl::types::IdlErrorCode;
    let errors: Vec<_> = Rejection::ALL
        .iter()
        .map(|rejection| IdlErrorCode {
            code: Rejection::ANCHOR_OFFSET + u32::from(rejection.code()),
            name: format!("{rejection:?}"),
            msg: Some(rejection.advice().to_owned()),
        })
        .collect();
    println!("--- IDL begin errors ---");
    println!("{}", serde_json::to_string_pretty(&errors).unwrap());
    println!("--- IDL end errors ---");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rejection_keeps_its_number_name_and_advice() {
        for rejection in Rejection::ALL {
            let Error::AnchorError(error) = Error::from(Failure::from(*rejection)) else {
                panic!("an Anchor error");
            };
            assert_eq!(error.error_code_number, 6000 + u32::from(rejection.code()));
            assert_eq!(error.error_name, format!("{rejection:?}"));
            assert_eq!(error.error_msg, rejection.advice());
        }
    }
}
