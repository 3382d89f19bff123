//! A wishlist beside a Django site: both write to one table, and a user who saves a wish on one sees it on the other.
//!
//! ```text
//! DATABASE_URL='postgres://app:app@127.0.0.1:6432/shop' SECRET_KEY=... WISHES=wishes_wish cargo run --example wishlist
//! ```
//!
//! `SECRET_KEY` is the site's, `WISHES` a table of its with a column `thing`; `CONSISTENCY` the level of requests that bring
//! no position. The same list is at `/wishes/` by tokio-postgres, at `/sqlx/wishes/` by sqlx, and at `/diesel/wishes/` by
//! diesel.

use std::env;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use axum::{Extension, Form, Json, Router};
use diesel::sql_types::Text;
use diesel::{Connection as _, PgConnection, QueryResult, RunQueryDsl as _};
use highwater_client::layer::{Carrying, HighwaterLayer};
use highwater_client::postgres::Connection;
use highwater_client::{Level, Session, Signer};
use serde::Deserialize;
use sqlx::AssertSqlSafe;
use sqlx::postgres::{PgPool, PgPoolOptions};
use tokio::sync::Mutex;
use tokio_postgres::{Config, NoTls};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The alias of the database in the site's settings.
const PLACE: &str = "default";

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let signer = Signer::new(&env::var("SECRET_KEY")?, [""; 0])?;
    let mut carrying = Carrying::new(signer);
    carrying.otherwise = match env::var("CONSISTENCY").as_deref() {
        Ok("eventual") => Some(Level::Eventual),
        Ok(_) => return Err("CONSISTENCY takes eventual, or nothing".into()),
        Err(_) => None,
    };
    let service = Router::new()
        .route("/wishes/", get(list).post(add))
        .route("/sqlx/wishes/", get(list_by_sqlx).post(add_by_sqlx))
        .route("/diesel/wishes/", get(list_by_diesel).post(add_by_diesel))
        .with_state(Arc::new(Wishlist::open().await?))
        .layer(HighwaterLayer::new(carrying)?);
    let listener = tokio::net::TcpListener::bind(env::var("LISTEN").unwrap_or("127.0.0.1:0".to_owned())).await?;
    println!("listening on {}", listener.local_addr()?);
    Ok(axum::serve(listener, service).await?)
}

/// One connection of each driver: whoever comes next gets it from whoever came before.
struct Wishlist {
    config: Config,
    connection: Mutex<Connection>,
    pool: PgPool,
    blocking: Mutex<Option<PgConnection>>,
    url: String,
    table: String,
}

#[derive(Deserialize)]
struct Wish {
    thing: String,
}

impl Wishlist {
    async fn open() -> Result<Self, Failure> {
        let url = env::var("DATABASE_URL")?;
        let config: Config = url.parse()?;
        let connection = Mutex::new(Connection::connect(&config, NoTls, PLACE).await?);
        let pool = PgPoolOptions::new().max_connections(1).connect(&url).await?;
        Ok(Self { config, connection, pool, blocking: Mutex::default(), url, table: env::var("WISHES")? })
    }

    /// Does something with diesel's connection, in a thread that may block. One that failed is replaced.
    async fn with_diesel<T: Send + 'static>(
        self: Arc<Self>,
        run: impl FnOnce(&mut PgConnection, &Self) -> QueryResult<T> + Send + 'static,
    ) -> Result<T, Failed> {
        let done = tokio::task::spawn_blocking(move || {
            let mut kept = self.blocking.blocking_lock();
            let mut connection = match kept.take() {
                Some(connection) => connection,
                None => PgConnection::establish(&self.url)?,
            };
            let done = run(&mut connection, &self)?;
            *kept = Some(connection);
            Ok::<_, Failure>(done)
        });
        Ok(done.await??)
    }

    fn insert(&self) -> String {
        format!("INSERT INTO {} (thing) VALUES ($1)", self.table)
    }

    fn select(&self) -> String {
        format!("SELECT thing FROM {} ORDER BY id", self.table)
    }
}

type Shared = State<Arc<Wishlist>>;

async fn add(
    State(wishlist): Shared,
    Extension(session): Extension<Session>,
    Form(wish): Form<Wish>,
) -> Result<Redirect, Failed> {
    let mut connection = wishlist.connection.lock().await;
    if connection.is_closed() {
        *connection = Connection::connect(&wishlist.config, NoTls, PLACE).await?;
    }
    let mut entered = connection.enter(&session).await?;
    entered.execute(&wishlist.insert(), &[&wish.thing]).await?;
    entered.finish().await;
    Ok(Redirect::to("/wishes/"))
}

async fn list(State(wishlist): Shared, Extension(session): Extension<Session>) -> Result<Json<Vec<String>>, Failed> {
    let mut connection = wishlist.connection.lock().await;
    if connection.is_closed() {
        *connection = Connection::connect(&wishlist.config, NoTls, PLACE).await?;
    }
    let mut entered = connection.enter(&session).await?;
    let rows = entered.query(&wishlist.select(), &[]).await?;
    entered.finish().await;
    Ok(Json(rows.iter().map(|row| row.get(0)).collect()))
}

async fn add_by_sqlx(
    State(wishlist): Shared,
    Extension(session): Extension<Session>,
    Form(wish): Form<Wish>,
) -> Result<Redirect, Failed> {
    let mut connection = wishlist.pool.acquire().await?;
    let mut entered = highwater_client::sqlx::enter(&mut connection, &session, PLACE).await?;
    let insert = sqlx::query(AssertSqlSafe(wishlist.insert())).bind(wish.thing);
    insert.execute(entered.connection().await?).await?;
    entered.finish().await;
    Ok(Redirect::to("/sqlx/wishes/"))
}

async fn list_by_sqlx(
    State(wishlist): Shared,
    Extension(session): Extension<Session>,
) -> Result<Json<Vec<String>>, Failed> {
    let mut connection = wishlist.pool.acquire().await?;
    let mut entered = highwater_client::sqlx::enter(&mut connection, &session, PLACE).await?;
    let select = sqlx::query_scalar(AssertSqlSafe(wishlist.select()));
    let things = select.fetch_all(entered.connection_to_read().await?).await?;
    entered.finish().await;
    Ok(Json(things))
}

async fn add_by_diesel(
    State(wishlist): Shared,
    Extension(session): Extension<Session>,
    Form(wish): Form<Wish>,
) -> Result<Redirect, Failed> {
    let adding = wishlist.with_diesel(move |connection, wishlist| {
        let mut entered = highwater_client::diesel::enter(connection, &session, PLACE)?;
        diesel::sql_query(wishlist.insert()).bind::<Text, _>(wish.thing).execute(entered.connection()?)?;
        entered.finish();
        Ok(())
    });
    adding.await?;
    Ok(Redirect::to("/diesel/wishes/"))
}

async fn list_by_diesel(
    State(wishlist): Shared,
    Extension(session): Extension<Session>,
) -> Result<Json<Vec<String>>, Failed> {
    let listing = wishlist.with_diesel(move |connection, wishlist| {
        let mut entered = highwater_client::diesel::enter(connection, &session, PLACE)?;
        let select = diesel::dsl::sql::<Text>(&wishlist.select());
        let things = select.load(entered.connection_to_read()?)?;
        entered.finish();
        Ok(things)
    });
    Ok(Json(listing.await?))
}

/// Whatever went wrong is told in the log; the layer gives the client what it must know.
struct Failed;

impl<E: std::fmt::Display> From<E> for Failed {
    fn from(error: E) -> Self {
        eprintln!("{error}");
        Self
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        StatusCode::INTERNAL_SERVER_ERROR.into_response()
    }
}
