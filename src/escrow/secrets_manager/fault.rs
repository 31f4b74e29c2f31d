//! What went wrong, in our words; of the service's answer only its code is ever shown.

use std::error::Error as StdError;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_secretsmanager::config::http::HttpResponse;
use aws_sdk_secretsmanager::error::{ProvideErrorMetadata, SdkError};
use http_body_util::LengthLimitError;

use super::access::{Access, LONGEST};
use crate::ground::{Error, Kind};

/// What the service answered, as far as callers treat it apart.
pub(super) enum Fault {
    /// There is no such secret.
    Missing,
    /// There is a secret of this name.
    Taken,
    /// The secret is scheduled for deletion.
    Deleted,
    /// Anything else.
    Other(Error),
}

/// One call, for messages.
pub(super) struct Call<'a> {
    pub(super) access: &'a Access,
    /// The right that it takes.
    pub(super) action: &'static str,
    /// The secret that it is about.
    pub(super) secret: &'a str,
}

impl Call<'_> {
    /// What a failed call came to.
    pub(super) fn fault<E: ProvideErrorMetadata + StdError + 'static>(
        &self,
        error: &SdkError<E, HttpResponse>,
    ) -> Fault {
        let answer = match error {
            SdkError::ServiceError(context) => {
                let meta = context.err().meta();
                Answer::new(context.raw(), meta.code(), meta.message())
            }
            SdkError::ResponseError(context) if !context.raw().status().is_success() => {
                Answer::new(context.raw(), None, None)
            }
            SdkError::TimeoutError(_) => return Fault::Other(self.silent("it took too long")),
            other => return Fault::Other(self.unsent(other)),
        };
        self.answered(&answer)
    }

    /// As an error, for callers to whom no answer is special.
    pub(super) fn error(&self, fault: Fault) -> Error {
        let Self { access, secret, .. } = self;
        match fault {
            Fault::Other(error) => error,
            Fault::Missing => Error::not_found(format!("{access} has no secret {secret}"))
                .hint("Secrets belong to one region of one account: is it this one?"),
            Fault::Taken => Error::not_authentic(format!("the name {secret} is taken in {access}")),
            Fault::Deleted => {
                let region = access.region.as_ref().map_or_else(String::new, |region| format!(" --region {region}"));
                Error::damaged(format!("the secret {secret} in {access} is scheduled for deletion")).hint(format!(
                    "Somebody deleted it. Until it is gone for good, `aws secretsmanager restore-secret --secret-id {secret}{region}` brings it back."
                ))
            }
        }
    }

    /// Nobody answered.
    fn silent(&self, why: &str) -> Error {
        Error::unreachable(format!("{} does not answer {} on {}: {why}", self.access, self.action, self.secret))
            .hint("Check the region, the network and the status of AWS, then run this again.")
    }

    /// It answered that all is well, and with something else than the service does.
    pub(super) fn strange(&self, how: &str) -> Error {
        let Self { access, action, secret } = self;
        Error::failed(format!("the answer of {access} to secretsmanager:{action} on {secret} {how}"))
            .hint("Is it Secrets Manager at all? Look at the endpoint, and for a proxy before it.")
    }

    /// It failed before there was a whole answer.
    fn unsent(&self, error: &(dyn StdError + 'static)) -> Error {
        let mut cause = Some(error);
        let mut deepest = String::new();
        while let Some(next) = cause {
            if let Some(own) = next.downcast_ref::<Error>() {
                let kept = Error::new(own.kind(), own.to_string());
                return own.hints().iter().fold(kept, Error::hint);
            }
            if let Some(credentials) = next.downcast_ref::<CredentialsError>() {
                return self.without_credentials(credentials);
            }
            if next.is::<LengthLimitError>() {
                return self.strange(&format!("is longer than {LONGEST} MiB"));
            }
            deepest = next.to_string();
            cause = next.source();
        }
        // Of the connection: refused, no such host, a certificate that nobody vouches for. No answer's body is in it.
        self.silent(&deepest)
    }

    fn without_credentials(&self, error: &CredentialsError) -> Error {
        let usual = "They come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE or `profile` with ~/.aws, credential_process, web identity, or the container or machine that this runs on.";
        let (kind, why) = match error {
            CredentialsError::CredentialsNotLoaded(_) => (Kind::Denied, "there are none"),
            CredentialsError::InvalidConfiguration(_) => (Kind::Usage, "the AWS configuration is wrong"),
            CredentialsError::ProviderTimedOut(_) => (Kind::Unreachable, "who gives them does not answer"),
            _ => (Kind::Denied, "they could not be had"),
        };
        let error = Error::new(kind, format!("no credentials for {}: {why}", self.access)).hint(usual);
        match &self.access.profile {
            Some(profile) => error.hint(format!("The AWS profile is {profile}. A profile with single sign-on works through `credential_process = aws configure export-credentials --profile NAME`.")),
            None => error,
        }
    }

    fn answered(&self, answer: &Answer) -> Fault {
        let Self { access, action, secret } = self;
        let code = answer.shown();
        let said = format!("{access} says no to secretsmanager:{action} on {secret}: {code}");
        let error = match (answer.code.as_deref().unwrap_or_default(), answer.status) {
            (_, 200..=299) => self.strange("is not what it should be"),
            ("ResourceNotFoundException", _) => return Fault::Missing,
            ("ResourceExistsException", _) => return Fault::Taken,
            ("InvalidRequestException", _) if answer.mentions("delet") => return Fault::Deleted,
            ("AccessDeniedException" | "AccessDenied", _) if answer.mentions("KMS") => Error::denied(said)
                .hint("This account may not use the KMS key of the secret: it needs kms:Decrypt, and kms:GenerateDataKey to store."),
            ("EncryptionFailure" | "DecryptionFailure", _) => {
                Error::denied(format!("{said}: the KMS key of the secret cannot be used"))
                    .hint("It may be disabled or about to be deleted: `aws kms describe-key` tells, `aws kms enable-key` or `aws kms cancel-key-deletion` brings it back.")
            }
            ("ExpiredTokenException" | "ExpiredToken" | "RequestExpired", _) => {
                Error::denied(said).hint("The credentials have expired: get new ones.")
            }
            ("InvalidSignatureException" | "SignatureDoesNotMatch", _) => {
                Error::denied(said).hint("The secret access key is wrong, or this machine's clock is.")
            }
            (
                "UnrecognizedClientException" | "InvalidClientTokenId" | "MissingAuthenticationToken"
                | "MissingAuthenticationTokenException" | "IncompleteSignature" | "OptInRequired",
                _,
            ) => Error::denied(said).hint("AWS does not know these credentials, or not in this region."),
            ("AccessDeniedException" | "AccessDenied" | "NotAuthorized", _) | (_, 401 | 403) => Error::denied(said)
                .hint("`strongroom policy print aws ROLE` prints what each role needs."),
            ("ThrottlingException" | "Throttling" | "TooManyRequestsException" | "RequestLimitExceeded", _)
            | (_, 408 | 429 | 500..) => self.silent(&code).hint("It was tried several times."),
            ("LimitExceededException", _) => Error::failed(said).hint("The account holds as many secrets as it may."),
            ("InvalidParameterException" | "ValidationException" | "InvalidParameterValue", _) => {
                Error::usage(said).hint("Check prefix and kms_key in the [[escrow]], or the name of the secret.")
            }
            _ => Error::failed(said),
        };
        Fault::Other(error)
    }
}

/// The parts of an answer that are looked at.
struct Answer {
    status: u16,
    code: Option<String>,
    /// Looked into, never shown.
    message: String,
}

impl Answer {
    fn new(raw: &HttpResponse, code: Option<&str>, message: Option<&str>) -> Self {
        let body = raw.body().bytes().unwrap_or_default();
        let body = String::from_utf8_lossy(&body[..body.len().min(16 << 10)]).into_owned();
        // What stands before the service answers in the form of other services of AWS.
        let code = code.map(str::to_owned).or_else(|| Some(body.split_once("<Code>")?.1.split_once('<')?.0.to_owned()));
        let code =
            code.filter(|code| code.len() <= 64 && code.chars().all(|c| c.is_ascii_alphanumeric() || ".:".contains(c)));
        Self { status: raw.status().as_u16(), code, message: message.map_or(body, str::to_owned) }
    }

    fn shown(&self) -> String {
        let status = self.status;
        self.code.as_ref().map_or_else(|| format!("status {status}"), Clone::clone)
    }

    fn mentions(&self, word: &str) -> bool {
        self.message.contains(word)
    }
}
