//! What a server answers instead of doing the work, and what happens where none answers.

use serde::{Deserialize, Serialize};

use crate::cli::Exit;
use crate::domain::error::Conflict;

/// The codes of refusals after which the same call does not succeed until an operator has done something.
const NEED_AN_OPERATOR: [&str; 12] = [
    "migration_running",
    "migration_open",
    "other_migrations",
    "migration_pruned",
    "migrations_ahead",
    "migrations_diverged",
    "new_tenants_blocked",
    "tenant_has_dependents",
    "tenant_role_in_use",
    "tenant_not_droppable",
    "tenant_damaged",
    "read_only",
];

/// A refusal of a server, or the reason why it could not be asked.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    pub(in crate::cli) exit: Exit,
    /// The code for programs, which the control API documents; `away` where no server answered.
    pub(in crate::cli) code: String,
    pub(in crate::cli) message: String,
    /// Every field that breaks a rule.
    pub(in crate::cli) fields: Vec<FieldView>,
    /// The codes of the rules that the fields break.
    pub(in crate::cli) rules: Vec<String>,
    /// The permissions that the token lacks.
    pub(in crate::cli) missing: Vec<String>,
    /// The id of the request, which the server's log has too.
    pub(in crate::cli) request_id: Option<String>,
}

/// An invalid field in JSON.
#[derive(Debug, Clone, Serialize)]
pub(in crate::cli) struct FieldView {
    pub(in crate::cli) field: String,
    pub(in crate::cli) message: String,
}

/// The body of an error of the control API (RFC 9457).
#[derive(Deserialize)]
struct Problem {
    code: String,
    title: String,
    detail: String,
    #[serde(default)]
    request_id: Option<String>,
    #[serde(default)]
    errors: Vec<FieldError>,
    #[serde(default)]
    missing: Vec<String>,
}

#[derive(Deserialize)]
struct FieldError {
    pointer: String,
    code: String,
    message: String,
}

impl Refusal {
    /// Creates the refusal of a server that did not answer.
    pub(super) fn away(message: String) -> Self {
        Self::new(Exit::Away, "away", message)
    }

    /// Creates the refusal of an answer that is not one of this program's servers, or of another version.
    pub(super) fn foreign(exit: Exit, message: String) -> Self {
        Self::new(exit, "foreign_answer", message)
    }

    /// Creates the refusal of what began and did not succeed.
    pub(super) fn of(code: &str, message: String) -> Self {
        let exit = match code {
            "slug_taken" | "id_taken" | "external_id_taken" | "export_running"
            | "archive_not_ready" => Exit::Conflict,
            _ => Exit::Failed,
        };
        Self::new(exit, code, message)
    }

    fn new(exit: Exit, code: &str, message: String) -> Self {
        let code = code.to_owned();
        let (fields, rules, missing) = (Vec::new(), Vec::new(), Vec::new());
        Self { exit, code, message, fields, rules, missing, request_id: None }
    }

    /// Reads the body of an error; `None` if it is not one of the control API.
    pub(super) fn read(status: u16, body: &[u8]) -> Option<Self> {
        let problem: Problem = serde_json::from_slice(body).ok()?;
        let rules = problem.errors.iter().map(|error| error.code.clone()).collect();
        let fields: Vec<FieldView> = problem
            .errors
            .into_iter()
            .map(|error| FieldView {
                field: error.pointer.trim_start_matches(['/', '?']).replace('/', "."),
                message: error.message,
            })
            .collect();
        let listed = fields.iter().map(|field| format!("{} {}", field.field, field.message));
        let message = match problem.code.as_str() {
            "invalid" | "external_id_differs" if !fields.is_empty() => {
                let listed = listed.collect::<Vec<_>>().join("\n  ");
                if problem.code == "invalid" {
                    listed
                } else {
                    format!("{}\n  {listed}", problem.title)
                }
            }
            "forbidden" if !problem.missing.is_empty() => {
                format!("not permitted; missing {}", problem.missing.join(", "))
            }
            code => {
                sentence(code).unwrap_or_else(|| format!("{}: {}", problem.title, problem.detail))
            }
        };
        let (code, missing, request_id) = (problem.code, problem.missing, problem.request_id);
        Some(Self {
            exit: exit_of(status, &code),
            code,
            message,
            fields,
            rules,
            missing,
            request_id,
        })
    }
}

/// Returns the sentence of a conflict, as the services word it, unless it depends on more than the code.
fn sentence(code: &str) -> Option<String> {
    match code.parse::<Conflict>() {
        Ok(
            Conflict::KeyTaken(_)
            | Conflict::IllegalMove(_)
            | Conflict::ExternalIdDiffers(_)
            | Conflict::Own(_),
        ) => None,
        Ok(conflict) => Some(conflict.to_string()),
        Err(_unknown) => None,
    }
}

/// Sorts an answer by what a script does next.
fn exit_of(status: u16, code: &str) -> Exit {
    match status {
        _ if NEED_AN_OPERATOR.contains(&code) => Exit::Failed,
        // The server does not know the path: an older one.
        404 if code == "route_not_found" => Exit::Failed,
        404 => Exit::NotFound,
        401 | 403 => Exit::Denied,
        409 | 410 | 412 | 428 => Exit::Conflict,
        408 | 429 | 502..=504 => Exit::Away,
        400..=499 => Exit::Usage,
        _ => Exit::Failed,
    }
}
