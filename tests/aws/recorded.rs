//! What AWS answers where the server of the other tests answers otherwise: its recorded words, from a small server of our own.

use std::sync::Mutex;

use crate::stage::{call, host, serve};
use crate::world::IDENTITY;

/// Somebody's text in an answer, which must never be shown.
const CANARY: &str = "hunter2-in-the-answer";

/// An answer in the form of the service.
fn json(status: u16, code: &str, message: &str) -> String {
    let body = format!("{{\"__type\":\"{code}\",\"Message\":\"{message} {CANARY}\"}}");
    http(status, "application/x-amz-json-1.1", &body)
}

/// An answer in the form of what stands before it.
fn xml(status: u16, code: &str) -> String {
    let body = format!(
        "<ErrorResponse><Errors><Error><Code>{code}</Code><Message>no {CANARY}</Message></Error></Errors></ErrorResponse>"
    );
    http(status, "text/xml", &body)
}

fn http(status: u16, kind: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

fn value() -> String {
    http(
        200,
        "application/x-amz-json-1.1",
        "{\"ARN\":\"a\",\"Name\":\"s\",\"VersionId\":\"v\",\"SecretString\":\"a key that is long enough for this\"}",
    )
}

/// Reads a key while the service answers this, the last of it for ever; how it ended, what it said, how often it was asked.
fn reading(answers: Vec<String>) -> (i32, String, usize) {
    let left = Mutex::new(answers);
    let (url, seen) = serve(move |_| {
        let mut left = left.lock().expect("not poisoned");
        let answer = if left.len() > 1 { left.remove(0) } else { left[0].clone() };
        answer.into_bytes()
    });
    let world = host(&url);
    let ran = call(&world, "key fingerprint aws-sm:prod/broker").run();
    ran.keeps_quiet_about(CANARY);
    let asked = seen.lock().expect("not poisoned").len();
    (ran.code.expect("not killed"), ran.stdout.clone() + &ran.stderr, asked)
}

#[test]
fn throttling_and_faults_of_the_service_are_waited_out() {
    for first in [
        json(400, "ThrottlingException", "Rate exceeded"),
        json(500, "InternalServiceError", "An error occurred on the server side."),
        http(503, "text/html", CANARY),
    ] {
        let (code, said, asked) = reading(vec![first.clone(), first, value()]);
        assert_eq!((code, asked), (0, 3), "{said}");
    }
}

#[test]
fn a_service_that_never_gets_well_is_given_up_after_four_questions() {
    for answer in [json(400, "ThrottlingException", "Rate exceeded"), http(503, "text/html", CANARY)] {
        let (code, said, asked) = reading(vec![answer]);
        assert_eq!((code, asked), (20, 4), "{said}");
        assert!(said.contains("does not answer GetSecretValue on prod/broker"), "{said}");
    }
}

#[test]
fn a_no_is_a_no_in_json_and_in_xml_and_names_action_and_secret() {
    for answer in [
        json(400, "AccessDeniedException", "User is not authorized"),
        json(403, "AccessDeniedException", "User is not authorized"),
        xml(403, "AccessDenied"),
        http(403, "text/html", CANARY),
        json(400, "UnrecognizedClientException", "The security token included in the request is invalid."),
        json(400, "ExpiredTokenException", "The security token included in the request is expired"),
        json(400, "InvalidSignatureException", "Signature expired"),
    ] {
        let (code, said, asked) = reading(vec![answer.clone()]);
        assert_eq!((code, asked), (21, 1), "{answer}\n{said}");
        assert!(said.contains("secretsmanager:GetSecretValue") && said.contains("prod/broker"), "{said}");
    }
}

#[test]
fn a_kms_key_that_is_disabled_or_not_ours_is_named() {
    let disabled = "Secrets Manager can't decrypt the protected secret text using the provided KMS key.";
    let (code, said, _) = reading(vec![json(400, "DecryptionFailure", disabled)]);
    assert_eq!(code, 21, "{said}");
    assert!(said.contains("KMS key of the secret cannot be used") && said.contains("aws kms enable-key"), "{said}");
    let (code, said, _) = reading(vec![json(400, "AccessDeniedException", "Access to KMS is not allowed")]);
    assert_eq!(code, 21, "{said}");
    assert!(said.contains("kms:Decrypt"), "{said}");
}

#[test]
fn a_secret_that_is_not_there_is_not_there() {
    let (code, said, _) =
        reading(vec![json(400, "ResourceNotFoundException", "Secrets Manager can't find the specified secret.")]);
    assert_eq!(code, 10, "{said}");
    assert!(said.contains("AWS Secrets Manager in eu-west-1") && said.contains("no secret prod/broker"), "{said}");
}

#[test]
fn a_secret_scheduled_for_deletion_is_restored_by_a_command_that_is_said() {
    let gone = "You can't perform this operation on the secret because it was marked for deletion.";
    let (code, said, _) = reading(vec![json(400, "InvalidRequestException", gone)]);
    assert_eq!(code, 13, "{said}");
    assert!(said.contains("aws secretsmanager restore-secret --secret-id prod/broker --region eu-west-1"), "{said}");
}

#[test]
fn an_answer_that_is_too_long_or_nonsense_is_said_to_be_that() {
    let long = http(200, "application/x-amz-json-1.1", &" ".repeat(5 << 20));
    let (code, said, _) = reading(vec![long]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("GetSecretValue on prod/broker is longer than 4 MiB"), "{said}");
    for body in ["{\"SecretString\":", "<html>", "{\"SecretBinary\":\"?\"}", "{\"SecretString\":[]}"] {
        let (code, said, asked) = reading(vec![http(200, "application/x-amz-json-1.1", &body.replace('?', CANARY))]);
        assert_eq!((code, asked), (1, 1), "{body}\n{said}");
        assert!(said.contains("GetSecretValue on prod/broker is not what it should be"), "{body}\n{said}");
    }
    // What says that all is well does not say that a secret is missing.
    assert_eq!(reading(vec![xml(200, "ResourceNotFoundException")]).0, 1);
    // An answer that breaks off is none.
    let cut = value().replace("Content-Length: ", "Content-Length: 1");
    let (code, said, asked) = reading(vec![cut.clone(), value()]);
    assert_eq!((code, asked), (0, 2), "{said}");
    let (code, said, _) = reading(vec![cut]);
    assert_eq!(code, 20, "{said}");
    assert!(said.contains("does not answer GetSecretValue on prod/broker"), "{said}");
}

#[test]
fn a_listing_without_an_end_is_ended() {
    let pages = Mutex::new(0);
    let (url, seen) = serve(move |request| {
        if !request.contains("secretsmanager.ListSecrets") {
            return json(400, "ResourceNotFoundException", "Secrets Manager can't find it.").into_bytes();
        }
        let mut page = pages.lock().expect("not poisoned");
        *page += 1;
        // A program that would go on is let go, and fails here.
        let next = if *page < 600 { format!(",\"NextToken\":\"{page}\"") } else { String::new() };
        let body = format!("{{\"SecretList\":[]{next}}}");
        http(200, "application/x-amz-json-1.1", &body).into_bytes()
    });
    let world = host(&url);
    call(&world, "backup").ends(3);
    call(&world, &format!("key verify -i {IDENTITY}")).ends(3).says("goes on for more than 500 pages");
    let asked = seen.lock().expect("not poisoned").iter().filter(|operation| *operation == "ListSecrets").count();
    assert_eq!(asked, 500);
}

/// Escrows a key while the service answers `CreateSecret` so; what the problem says.
fn creating(answer: String) -> String {
    let missing = json(400, "ResourceNotFoundException", "Secrets Manager can't find the specified secret.");
    let (url, _) = serve(move |request| {
        let create = request.contains("secretsmanager.CreateSecret");
        if create { answer.clone() } else { missing.clone() }.into_bytes()
    });
    let ran = call(&host(&url), "backup").ends(3);
    ran.keeps_quiet_about(CANARY).says("proved");
    ran.stderr.clone() + &ran.stdout
}

#[test]
fn what_keeps_a_deposit_from_being_created_is_said_and_the_bundle_is_made() {
    let name = "strongroom/package-broker/";
    for (answer, says) in [
        (
            json(
                400,
                "InvalidRequestException",
                "You can't create this secret because a secret with this name is already scheduled for deletion.",
            ),
            "aws secretsmanager restore-secret --secret-id strongroom/package-broker/",
        ),
        (
            json(
                400,
                "EncryptionFailure",
                "Secrets Manager can't encrypt the protected secret text using the provided KMS key.",
            ),
            "aws kms enable-key",
        ),
        (
            json(400, "AccessDeniedException", "not authorized to perform: secretsmanager:TagResource"),
            "secretsmanager:CreateSecret",
        ),
        (
            json(400, "ResourceExistsException", "The operation failed because the secret already exists."),
            "cannot be seen yet",
        ),
        (
            json(400, "LimitExceededException", "The request failed because it would exceed one of the quotas."),
            "LimitExceededException",
        ),
        (xml(403, "AccessDenied"), "secretsmanager:CreateSecret"),
    ] {
        let said = creating(answer);
        assert!(said.contains(says) && said.contains(name), "{says}\n{said}");
    }
}
