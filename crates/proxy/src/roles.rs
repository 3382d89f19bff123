//! Asks the servers what they store of a role's password (`auth_query`): the primary, or a standby while it is away, on a
//! connection of its own that no client can keep busy.
//!
//! One task asks for everybody. Logins that arrive while a question is under way share the next one, so that each gets an
//! answer from after its arrival: a password that was changed holds at once, and the servers are asked at most as fast as
//! they answer.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use highwater_core::ServerId;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

use crate::clock::now;
use crate::credentials::{Proof, Stored};
use crate::error::LoginFailure;
use crate::server::{Connection, Failure, Login, Secret};
use crate::shared::{Answer, Proxy, Question, Unanswered};

/// A server that does not answer so simple a question is as good as away.
const ANSWER_LIMIT: Duration = Duration::from_secs(3);
/// After a server refused, how long it is not asked again: somebody may be granting the right just now.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);
/// A wrong password makes a kept answer be fetched again, but not sooner than this after the last time.
const AFRESH_PAUSE: Duration = Duration::from_secs(1);
/// Kept answers, before those that have run out are dropped.
const KEPT_MAX: usize = 10_000;

/// Whether the connection's role may call the function that `highwater auth-sql` makes, and whether it may read passwords
/// anyway. The function counts only if a superuser made it: whoever may create schemas could have put it there.
pub(crate) const MAY_ASK: &str = "SELECT coalesce((SELECT pg_catalog.has_schema_privilege(n.oid, 'USAGE') \
        AND pg_catalog.has_function_privilege(p.oid, 'EXECUTE') \
    FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) p.pronamespace \
    JOIN pg_catalog.pg_roles r ON r.oid OPERATOR(pg_catalog.=) p.proowner \
    WHERE n.nspname OPERATOR(pg_catalog.=) 'highwater' AND p.proname OPERATOR(pg_catalog.=) 'lookup' \
        AND p.pronargs OPERATOR(pg_catalog.=) 1 AND p.prosecdef AND r.rolsuper LIMIT 1), false), \
    pg_catalog.has_column_privilege('pg_catalog.pg_authid', 'rolpassword', 'SELECT')";

const BY_FUNCTION: &str = "SELECT rolname, rolpassword FROM highwater.lookup($1)";
const BY_TABLE: &str = "SELECT rolname, \
    CASE WHEN rolvaliduntil OPERATOR(pg_catalog.<=) pg_catalog.now() THEN NULL ELSE rolpassword END \
    FROM pg_catalog.pg_authid WHERE rolname OPERATOR(pg_catalog.=) $1 AND rolcanlogin";

/// A name as SQL has it, whatever is in it.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The statements that let `role` look passwords up, and nothing else: for a superuser, in the database of the server URLs.
/// Passwords of superusers are left out unless `superusers`: what the role can read is what its password is worth.
pub(crate) fn grants(role: &str, superusers: bool) -> [String; 6] {
    let role = quoted(role);
    let without = if superusers { "" } else { " AND NOT rolsuper" };
    [
        "CREATE SCHEMA IF NOT EXISTS highwater;".into(),
        format!(
            "CREATE OR REPLACE FUNCTION highwater.lookup(wanted text, OUT rolname name, OUT rolpassword text) \
             RETURNS SETOF record LANGUAGE sql STABLE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp \
             AS 'SELECT rolname, CASE WHEN rolvaliduntil <= now() THEN NULL ELSE rolpassword END \
             FROM pg_catalog.pg_authid WHERE rolname = wanted AND rolcanlogin{without}';"
        ),
        "ALTER FUNCTION highwater.lookup(text) OWNER TO CURRENT_USER;".into(),
        "REVOKE ALL ON FUNCTION highwater.lookup(text) FROM PUBLIC;".into(),
        format!("GRANT USAGE ON SCHEMA highwater TO {role};"),
        format!("GRANT EXECUTE ON FUNCTION highwater.lookup(text) TO {role};"),
    ]
}

/// What the proof of `user` is checked against: by the configuration, the password file, or the servers. Nobody can give
/// the proof that is asked of a user without a password.
pub(crate) async fn proof(proxy: &Proxy, user: &str) -> Result<Option<Proof>, LoginFailure> {
    let stored = match proxy.configured(user) {
        Some(stored) => Some(stored),
        None => match ask(proxy, user, false).await {
            Ok(stored) => stored,
            Err(Unanswered::NotAllowed) => None,
            Err(Unanswered::Unreachable) => return Err(LoginFailure::NoLookup),
        },
    };
    Ok(match stored {
        Some(stored) => Some(proxy.credentials.proof(user, stored).await),
        None => None,
    })
}

/// A password was wrong: what is kept of the servers' answers may be, too.
pub(crate) fn doubt(proxy: &Arc<Proxy>, user: &str) {
    if !proxy.config.auth_query_cache.0.is_zero() && proxy.configured(user).is_none() {
        let (proxy, user) = (Arc::clone(proxy), user.to_owned());
        tokio::spawn(async move { drop(ask(&proxy, &user, true).await) });
    }
}

async fn ask(proxy: &Proxy, user: &str, afresh: bool) -> Answer {
    let (answer, answered) = oneshot::channel();
    let question = Question { user: user.to_owned(), afresh, answer };
    proxy.roles.send(question).await.map_err(|_| Unanswered::Unreachable)?;
    answered.await.unwrap_or(Err(Unanswered::Unreachable))
}

/// Says in the log, once a primary is known, whether passwords can be looked up.
pub(crate) async fn rehearse(proxy: &Proxy) {
    drop(ask(proxy, "", false).await);
}

/// Answers questions for as long as the process lives.
pub(crate) async fn answer(proxy: Arc<Proxy>, mut questions: mpsc::Receiver<Question>) {
    let mut clerk = Clerk::default();
    while let Some(first) = questions.recv().await {
        // Everything that has been asked until now; what comes later waits for the next round.
        let mut round = HashMap::<String, Vec<Question>>::new();
        let waiting = std::iter::from_fn(|| questions.try_recv().ok());
        for question in std::iter::once(first).chain(waiting) {
            round.entry(question.user.clone()).or_default().push(question);
        }
        for (user, mut asking) in round {
            asking.retain(|question| !question.answer.is_closed());
            if asking.is_empty() {
                continue;
            }
            let afresh = asking.iter().any(|question| question.afresh);
            let answer = clerk.answer(&proxy, &user, afresh).await;
            for question in asking {
                let _ = question.answer.send(answer.clone());
            }
        }
    }
}

/// Who asks: his connection, and what he remembers.
#[derive(Default)]
struct Clerk {
    line: Option<Line>,
    kept: HashMap<String, (Instant, Option<Stored>)>,
    refused_at: Option<Instant>,
    complained: bool,
}

/// A connection to ask on.
struct Line {
    server: ServerId,
    connection: Connection,
    statement: String,
}

impl Clerk {
    async fn answer(&mut self, proxy: &Proxy, user: &str, afresh: bool) -> Answer {
        let keep = proxy.config.auth_query_cache.0;
        if let Some((at, stored)) = self.kept.get(user)
            && at.elapsed() < if afresh { AFRESH_PAUSE.min(keep) } else { keep }
        {
            return Ok(stored.clone());
        }
        let answer = self.ask(proxy, user).await;
        match &answer {
            Ok(stored) if !keep.is_zero() => {
                if self.kept.len() >= KEPT_MAX {
                    self.kept.retain(|_, (at, _)| at.elapsed() < keep);
                }
                self.kept.insert(user.to_owned(), (Instant::now(), stored.clone()));
            }
            _ => drop(self.kept.remove(user)),
        }
        answer
    }

    /// Asks the primary; standbys while no primary answers.
    async fn ask(&mut self, proxy: &Proxy, user: &str) -> Answer {
        if self.refused_at.is_some_and(|at| at.elapsed() < REFUSED_PAUSE) {
            return Err(Unanswered::NotAllowed);
        }
        self.refused_at = None;
        for id in candidates(proxy) {
            match self.ask_one(proxy, id, user).await {
                Ok(stored) => return Ok(stored),
                Err(Failure::NotAllowed) => {
                    // What may be asked is looked at again on a new connection.
                    self.line = None;
                    self.refused_at = Some(Instant::now());
                    self.complain(proxy, id);
                    return Err(Unanswered::NotAllowed);
                }
                Err(failure) => {
                    self.line = None;
                    tracing::warn!(server = proxy.server(id).config.name, "auth_query failed: {failure}");
                }
            }
        }
        Err(Unanswered::Unreachable)
    }

    async fn ask_one(&mut self, proxy: &Proxy, id: ServerId, user: &str) -> Result<Option<Stored>, Failure> {
        let asking = async {
            let mut line = match self.line.take() {
                Some(line) if line.server == id && !line.connection.stream.has_news() => line,
                _ => Line::open(proxy, id).await?,
            };
            let rows = line.connection.query_with(&line.statement, user).await;
            if !matches!(&rows, Err(failure) if !matches!(failure, Failure::Said(_))) {
                self.line = Some(line);
            }
            let rows = rows.map_err(not_allowed)?;
            // A statement that answers for somebody else proves nothing about this user.
            let is_about_user = rows.len() > 0 && rows.text(0, 0)? == user;
            let known = is_about_user && !rows.is_null(0, 1);
            known.then(|| rows.text(0, 1).map(Stored::read)).transpose()
        };
        timeout(ANSWER_LIMIT, asking).await.unwrap_or_else(|_| Err(Failure::Io(std::io::ErrorKind::TimedOut.into())))
    }

    /// Says once what to do, in one line.
    fn complain(&mut self, proxy: &Proxy, id: ServerId) {
        let config = &proxy.server(id).config;
        let role = asking_role(proxy, id);
        if std::mem::replace(&mut self.complained, true) {
            return;
        }
        if proxy.config.auth_query.is_empty() {
            tracing::warn!(
                "role \"{role}\" may not look passwords up, so only users with a password in [[user]] or password_file can log \
                 in; for others a superuser runs in database \"{}\" what `highwater auth-sql` prints: {}",
                config.url.database,
                grants(role, false).join(" ")
            );
        } else {
            tracing::warn!(
                "role \"{role}\" may not run the setting auth_query in database \"{}\"",
                config.url.database
            );
        }
    }
}

/// The primary, then the other servers of this cluster: a stranger's word on who may log in is worth nothing.
fn candidates(proxy: &Proxy) -> Vec<ServerId> {
    let cluster = proxy.cluster.lock();
    let primary = cluster.primary();
    let belongs = |id: &ServerId| cluster.server_view(*id, now()).is_some_and(|view| view.identity.is_some());
    let others = proxy.servers.iter().map(|server| server.id).filter(|id| Some(*id) != primary && belongs(id));
    primary.into_iter().chain(others).collect()
}

/// A statement that the role may not run, or that names what is not there.
fn not_allowed(failure: Failure) -> Failure {
    match failure {
        Failure::Said(said) if [*b"42501", *b"42883", *b"3F000", *b"42P01"].contains(&said.code.0) => {
            Failure::NotAllowed
        }
        other => other,
    }
}

fn asking_role(proxy: &Proxy, id: ServerId) -> &str {
    match proxy.config.auth_user.as_str() {
        "" => &proxy.server(id).config.url.user,
        user => user,
    }
}

impl Line {
    async fn open(proxy: &Proxy, id: ServerId) -> Result<Self, Failure> {
        let server = proxy.server(id);
        let url = &server.config.url;
        let name = [("application_name".to_owned(), "highwater auth_query".to_owned())];
        let role = asking_role(proxy, id);
        let own = if role == url.user { Secret::of(url.password.as_ref()) } else { proxy.secret(role) };
        let login = Login::new(role, own, &url.database, &name);
        let mut connection = Connection::open(&server.endpoint, &login, proxy.config.connect_timeout.0).await?;
        let statement = match proxy.config.auth_query.as_str() {
            "" => {
                let may = connection.query(MAY_ASK).await?;
                match (may.bool(0, 0)?, may.bool(0, 1)?) {
                    (true, _) => BY_FUNCTION,
                    (false, true) => BY_TABLE,
                    (false, false) => return Err(Failure::NotAllowed),
                }
            }
            own => own,
        };
        let statement = statement.to_owned();
        Ok(Self { server: id, connection, statement })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_roles_are_quoted() {
        let all = grants("we\"ird", false).join("\n");
        assert!(all.contains("TO \"we\"\"ird\"") && all.contains("NOT rolsuper"), "{all}");
        assert!(!grants("x", true).join("\n").contains("rolsuper"));
    }
}
