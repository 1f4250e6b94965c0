//! Bringing a database to this version's schema.

use super::PostgresFailure;
use super::session::APPLICATION_ID;
use crate::StoreFailure;
use tokio_postgres::{Client, Transaction};

/// Each brings a database of its number to the next one; `about.version` is how many were applied. Only ever appended to.
const MIGRATIONS: [&str; 2] =
    [include_str!("../migrations/postgres/0001_vouchers.sql"), include_str!("../migrations/postgres/0002_nodes.sql")];

/// The schema that all our tables are in.
const SCHEMA: &str = "tallybook";

/// Tables of others: what a server itself or an extension has put there is nobody's.
const OTHERS: &str = "
    SELECT count(*) FROM pg_class
    WHERE relkind IN ('r', 'p') AND relpersistence <> 't'
      AND relnamespace NOT IN (SELECT oid FROM pg_namespace WHERE nspname IN ('pg_catalog', 'information_schema', 'pg_toast'))
      AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = pg_class.oid AND deptype = 'e')";

/// Applies what is missing, all or none. Whoever does so has the database for itself.
pub(super) async fn migrate(client: &mut Client, database: &str) -> Result<(), StoreFailure> {
    let transaction = client.transaction().await?;
    let found = version(&transaction, database).await?;
    let too_new = || PostgresFailure::TooNew { database: database.to_owned(), found, known: MIGRATIONS.len() };
    let applied = usize::try_from(found).map_err(|_| StoreFailure::Damaged("about.version"))?;
    let todo = MIGRATIONS.get(applied..).ok_or_else(too_new)?;
    if todo.is_empty() {
        return Ok(());
    }
    for migration in todo {
        transaction.batch_execute(migration).await?;
    }
    let version = i32::try_from(MIGRATIONS.len()).unwrap_or(i32::MAX);
    transaction.execute("UPDATE about SET version = $1", &[&version]).await?;
    Ok(transaction.commit().await?)
}

/// Whether nothing is missing, so that nobody has to have the database for itself.
pub(super) async fn is_current(client: &mut Client, database: &str) -> Result<bool, StoreFailure> {
    let transaction = client.transaction().await?;
    if !has(&transaction, "to_regclass('tallybook.about')").await? {
        return Ok(false);
    }
    let found = version(&transaction, database).await?;
    let applied = usize::try_from(found).map_err(|_| StoreFailure::Damaged("about.version"))?;
    let known = MIGRATIONS.len();
    if applied > known {
        return Err(PostgresFailure::TooNew { database: database.to_owned(), found, known }.into());
    }
    Ok(applied == known)
}

/// How many migrations were applied; makes what says so where there is nothing yet.
async fn version(transaction: &Transaction<'_>, database: &str) -> Result<i32, StoreFailure> {
    let foreign = || StoreFailure::from(PostgresFailure::Foreign(database.to_owned()));
    if has(transaction, "to_regclass('tallybook.about')").await? {
        let row = transaction.query_opt("SELECT application_id, version FROM about", &[]).await?.ok_or_else(foreign)?;
        return if row.try_get::<_, i32>(0)? == APPLICATION_ID { Ok(row.try_get(1)?) } else { Err(foreign()) };
    }
    if transaction.query_one(OTHERS, &[]).await?.try_get::<_, i64>(0)? != 0 {
        return Err(foreign());
    }
    // Who may not make a schema may be given one.
    if !has(transaction, "to_regnamespace('tallybook')").await? {
        transaction.batch_execute(&format!("CREATE SCHEMA {SCHEMA}")).await?;
    }
    transaction
        .batch_execute(
            "CREATE TABLE about (
                 one            boolean NOT NULL PRIMARY KEY DEFAULT true CHECK (one),
                 application_id integer NOT NULL,
                 version        integer NOT NULL
             )",
        )
        .await?;
    let sql = "INSERT INTO about (application_id, version) VALUES ($1, 0)";
    transaction.execute(sql, &[&APPLICATION_ID]).await?;
    Ok(0)
}

async fn has(transaction: &Transaction<'_>, what: &str) -> Result<bool, StoreFailure> {
    Ok(transaction.query_one(&format!("SELECT {what} IS NOT NULL"), &[]).await?.try_get(0)?)
}
