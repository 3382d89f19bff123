//! What a database's own catalogue says of functions, operators, types and relations, as far as it matters here.
//!
//! It is made of rows that somebody else fetched, and is never changed: a new state is a new catalogue.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::OnceLock;

use crate::builtin;
use crate::facts::{Pin, Touch};
use crate::found::Found;
use crate::setting::Value;

/// The objects of one database.
#[derive(Debug, Default)]
pub struct Catalog {
    relations: HashMap<Box<str>, Vec<Relation>>,
    functions: HashMap<Box<str>, Vec<Function>>,
    operators: HashMap<Box<str>, Volatility>,
    volatile_types: HashSet<Box<str>>,
    /// What functions do to the state of their connection.
    stateful: HashMap<Box<str>, Stateful>,
    /// What the triggers of tables do to it.
    triggers: HashMap<Box<str>, Stateful>,
    rules: HashMap<Box<str>, Rule>,
    outdated: bool,
    generation: u64,
}

/// A row of the catalogue that is not as [`Catalog::QUERY`] returns it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRow {
    /// Its number, from 0.
    pub row: usize,
}

impl fmt::Display for BadRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "row {} of the catalogue cannot be read", self.row)
    }
}

impl std::error::Error for BadRow {}

/// Whether calling it may have an effect (manual, "Function Volatility Categories").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Volatility {
    /// Stable or immutable.
    Steady,
    Volatile,
}

/// All overloads of one name in one schema.
#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) schema: Box<str>,
    pub(crate) volatility: Volatility,
    /// In `pg_catalog`.
    pub(crate) builtin: bool,
    /// Can be called with a whole row, and so as if it were a column.
    pub(crate) of_row: bool,
}

/// What running some code does to the state of the server connection.
#[derive(Clone, Debug, Default)]
struct Stateful {
    touches: Vec<Box<str>>,
    pin: Option<Pin>,
}

#[derive(Debug)]
pub(crate) struct Relation {
    schema: Box<str>,
    pub(crate) kind: RelationKind,
    /// A view's query, or what the policies of a table ask.
    pub(crate) definitions: Vec<Box<str>>,
    /// What the definitions do, once somebody had to know.
    pub(crate) verdict: OnceLock<Found>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RelationKind {
    /// A permanent table, a materialized view, or a view; replicated.
    Table,
    Unlogged,
    Foreign,
    Sequence,
    /// A system view of the server's own state.
    ServerLocal,
}

/// What the operator of the proxy says of a function, over what the catalogue says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Rule {
    Reads,
    Writes,
}

impl Catalog {
    /// The query for the rows of [`Catalog::from_rows`], on PostgreSQL 13 and later, for any user. To be run on the
    /// primary, as one statement of the simple protocol. Temporary objects are not in it.
    pub const QUERY: &'static str = include_str!("catalog.sql");

    /// A catalogue of nothing: every name is unknown.
    pub fn empty() -> Self {
        Self::default()
    }

    /// What is left of a catalogue that may be out of date: every name is unknown, but for what code may do to the state of
    /// its connection, which must not be overlooked meanwhile.
    pub fn outdated(&self) -> Self {
        let mut hasher = DefaultHasher::new();
        (self.generation, "outdated").hash(&mut hasher);
        Self {
            stateful: self.stateful.clone(),
            triggers: self.triggers.clone(),
            outdated: true,
            generation: if self.outdated { self.generation } else { hasher.finish() },
            ..Self::default()
        }
    }

    /// The catalogue from all rows of [`Catalog::QUERY`], in their order. The same rows make the same generation.
    ///
    /// # Errors
    ///
    /// A row that has not four values, or one whose kind is not known.
    pub fn from_rows<R: AsRef<[Option<String>]>>(rows: impl IntoIterator<Item = R>) -> Result<Self, BadRow> {
        let mut catalog = Self::empty();
        let mut hasher = DefaultHasher::new();
        for (number, row) in rows.into_iter().enumerate() {
            row.as_ref().hash(&mut hasher);
            catalog.add(row.as_ref()).ok_or(BadRow { row: number })?;
        }
        catalog.generation = hasher.finish();
        Ok(catalog)
    }

    /// The same with the operator's word on functions: `reads` do not write although they are volatile, `writes` write
    /// although they are not. Names are `name` or `schema.name`, in the server's spelling. What `reads` names may run
    /// on a standby, but is not run a second time unseen.
    pub fn with_functions<'a>(
        mut self,
        reads: impl IntoIterator<Item = &'a str>,
        writes: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let mut hasher = DefaultHasher::new();
        self.generation.hash(&mut hasher);
        let reads = reads.into_iter().map(|name| (name, Rule::Reads));
        for (name, rule) in reads.chain(writes.into_iter().map(|name| (name, Rule::Writes))) {
            (name, rule).hash(&mut hasher);
            self.rules.insert(name.into(), rule);
        }
        self.generation = hasher.finish();
        self
    }

    /// A number for this content: equal content has equal numbers, in one build of this crate.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    fn add(&mut self, row: &[Option<String>]) -> Option<()> {
        let [Some(kind), Some(schema), Some(name), Some(detail)] = row else { return None };
        match kind.as_str() {
            "function" => {
                let function = Function {
                    schema: schema.as_str().into(),
                    volatility: volatility(detail)?,
                    builtin: schema == "pg_catalog",
                    of_row: detail.ends_with('r'),
                };
                self.functions.entry(name.as_str().into()).or_default().push(function);
            }
            "operator" => {
                let worst = self.operators.entry(name.as_str().into()).or_insert(Volatility::Steady);
                *worst = volatility(detail)?.max(*worst);
            }
            "type" => {
                self.volatile_types.insert(name.as_str().into());
            }
            "touches" | "leaves" => self.stateful(schema, name)?.add(kind, detail),
            "policy" => self.relation(schema, name, None).definitions.push(format!("SELECT WHERE {detail}").into()),
            "view" => self.relation(schema, name, Some(RelationKind::Table)).definitions.push(detail.as_str().into()),
            kind => {
                let kind = relation_kind(kind, name)?;
                self.relation(schema, name, Some(kind));
            }
        }
        Some(())
    }

    /// Where to note what functions, or the triggers of tables, of that name do.
    fn stateful(&mut self, of: &str, name: &str) -> Option<&mut Stateful> {
        let map = match of {
            "function" => &mut self.stateful,
            "table" => &mut self.triggers,
            _ => return None,
        };
        Some(map.entry(name.into()).or_default())
    }

    /// Notes what a function of this name does to the state of its connection.
    pub(crate) fn note_function(&self, name: &str, found: &mut Found) {
        self.stateful.get(name).into_iter().for_each(|stateful| stateful.note(found));
    }

    /// Notes what triggers of a table of this name do to it.
    pub(crate) fn note_triggers(&self, name: &str, found: &mut Found) {
        self.triggers.get(name).into_iter().for_each(|stateful| stateful.note(found));
    }

    /// The relation of that name, made if it is new.
    fn relation(&mut self, schema: &str, name: &str, kind: Option<RelationKind>) -> &mut Relation {
        let of_name = self.relations.entry(name.into()).or_default();
        let place = of_name.iter().position(|relation| *relation.schema == *schema).unwrap_or_else(|| {
            of_name.push(Relation {
                schema: schema.into(),
                kind: RelationKind::Table,
                definitions: Vec::new(),
                verdict: OnceLock::new(),
            });
            of_name.len() - 1
        });
        let relation = &mut of_name[place];
        relation.kind = kind.unwrap_or(relation.kind);
        relation
    }

    /// Relations of that name: of one schema, or of all.
    pub(crate) fn relations<'a>(&'a self, schema: Option<&'a str>, name: &str) -> impl Iterator<Item = &'a Relation> {
        let of_name = self.relations.get(name).map_or(&[][..], Vec::as_slice);
        of_name.iter().filter(move |relation| schema.is_none_or(|schema| *relation.schema == *schema))
    }

    /// Functions, aggregates and procedures of that name: of one schema, or of all.
    pub(crate) fn functions<'a>(&'a self, schema: Option<&'a str>, name: &str) -> impl Iterator<Item = &'a Function> {
        let of_name = self.functions.get(name).map_or(&[][..], Vec::as_slice);
        of_name.iter().filter(move |function| schema.is_none_or(|schema| *function.schema == *schema))
    }

    /// The worst of all operators of that name.
    pub(crate) fn operator(&self, name: &str) -> Option<Volatility> {
        self.operators.get(name).copied()
    }

    /// Whether a type of that name calls a volatile function in its casts or checks.
    pub(crate) fn is_volatile_type(&self, name: &str) -> bool {
        self.volatile_types.contains(name)
    }

    /// The operator's word on a function.
    pub(crate) fn rule(&self, schema: &str, name: &str) -> Option<Rule> {
        if self.rules.is_empty() {
            return None;
        }
        self.rules.get(format!("{schema}.{name}").as_str()).or_else(|| self.rules.get(name)).copied()
    }
}

impl Stateful {
    fn add(&mut self, kind: &str, detail: &str) {
        match (kind, detail) {
            ("touches", "*" | "all" | "session" | "names" | "schema" | "time" | "xml") => {
                self.pin = Some(Pin::Function)
            }
            ("touches", name) => self.touches.push(name.into()),
            // Which of them it is, the server is asked.
            _ => self.pin = self.pin.or(Some(Pin::TemporaryTable)),
        }
    }

    fn note(&self, found: &mut Found) {
        found.may_unpin = true;
        self.touches.iter().for_each(|name| found.touch(Touch::Set(Value::Text(name.to_string()))));
        self.pin.into_iter().for_each(|pin| found.pin(pin));
    }
}

/// `i`, `s` or `v` of `pg_proc.provolatile`.
fn volatility(detail: &str) -> Option<Volatility> {
    match detail.as_bytes().first()? {
        b'i' | b's' => Some(Volatility::Steady),
        b'v' => Some(Volatility::Volatile),
        _ => None,
    }
}

fn relation_kind(kind: &str, name: &str) -> Option<RelationKind> {
    Some(match kind {
        "table" => RelationKind::Table,
        "unlogged" => RelationKind::Unlogged,
        "foreign" => RelationKind::Foreign,
        "sequence" => RelationKind::Sequence,
        "system_view" if builtin::is_replicated_view(name) => RelationKind::Table,
        "system_view" => RelationKind::ServerLocal,
        _ => return None,
    })
}
