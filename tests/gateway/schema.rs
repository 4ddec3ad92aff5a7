//! The tables we test on are Django's: the live catalogue against `tests/schema/tables.json`.

use serde_json::{Value, json};
use sqlx::PgPool;

use crate::support::Stack;

/// Of Django's 74 columns of this table only a part is laid; each must be as Django has it.
const USER_TABLE: &str = "users_user";

/// One JSON object for each table, in the form of `tables.json`.
const CATALOGUE: &str = "
SELECT c.relname, jsonb_build_object(
    'columns', (SELECT jsonb_agg(jsonb_build_object('name', attname, 'type', format_type(atttypid, atttypmod),
                                                    'null', NOT attnotnull, 'identity', attidentity = 'd') ORDER BY attnum)
                FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped),
    'defaults', (SELECT count(*) FROM pg_attrdef WHERE adrelid = c.oid),
    'primary_key', (SELECT jsonb_agg(a.attname ORDER BY k.place)
                    FROM pg_constraint p, unnest(p.conkey) WITH ORDINALITY AS k (number, place), pg_attribute a
                    WHERE p.conrelid = c.oid AND p.contype = 'p' AND a.attrelid = c.oid AND a.attnum = k.number),
    'unique', COALESCE((SELECT jsonb_agg(columns ORDER BY columns) FROM (
                   SELECT jsonb_agg(a.attname ORDER BY k.place) AS columns
                   FROM pg_constraint u, unnest(u.conkey) WITH ORDINALITY AS k (number, place), pg_attribute a
                   WHERE u.conrelid = c.oid AND u.contype = 'u' AND a.attrelid = c.oid AND a.attnum = k.number
                   GROUP BY u.oid) AS uniques), '[]'),
    'foreign_keys', COALESCE((SELECT jsonb_agg(jsonb_build_object('column', a.attname, 'references', f.confrelid::regclass::text)
                                               ORDER BY a.attname)
                    FROM pg_constraint f JOIN pg_attribute a ON a.attrelid = c.oid AND ARRAY[a.attnum] = f.conkey
                    WHERE f.conrelid = c.oid AND f.contype = 'f' AND f.condeferrable AND f.condeferred AND f.confdeltype = 'a'), '[]'),
    'checks', COALESCE((SELECT jsonb_agg(pg_get_constraintdef(oid) ORDER BY pg_get_constraintdef(oid) COLLATE \"C\")
                        FROM pg_constraint WHERE conrelid = c.oid AND contype = 'c'), '[]'),
    'indexes', COALESCE((SELECT jsonb_agg(definition ORDER BY definition COLLATE \"C\") FROM (
                    SELECT substring(pg_get_indexdef(i.indexrelid) FROM 'USING btree (.*)$') AS definition
                    FROM pg_index i WHERE i.indrelid = c.oid
                    AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid AND k.contype IN ('p', 'u'))) AS indexes), '[]'))
FROM pg_class c WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace ORDER BY c.relname";

#[tokio::test]
async fn the_tables_are_djangos() {
    let stack = Stack::start().await;
    let expected: Value = serde_json::from_str(include_str!("../schema/tables.json")).unwrap();
    let expected = expected["tables"].as_object().unwrap();
    let live = catalogue(stack.db()).await;

    assert_eq!(live.iter().map(|(name, _)| name).collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (name, table) in &live {
        assert_eq!(table["defaults"], 0, "{name} has a column with a default");
        let django =
            if name == USER_TABLE { without_absent_columns(&expected[name], table) } else { expected[name].clone() };
        for aspect in ["columns", "primary_key"] {
            assert_eq!(table[aspect], django[aspect], "{aspect} of {name}");
        }
        for aspect in ["unique", "foreign_keys", "checks", "indexes"] {
            assert_eq!(sorted(&table[aspect]), sorted(&django[aspect]), "{aspect} of {name}");
        }
    }
}

async fn catalogue(db: &PgPool) -> Vec<(String, Value)> {
    sqlx::query_as(CATALOGUE).fetch_all(db).await.unwrap()
}

/// Django's description less the columns that are not there, and what rests on them.
fn without_absent_columns(django: &Value, live: &Value) -> Value {
    let names = |table: &Value| -> Vec<String> {
        let columns = table["columns"].as_array().unwrap();
        columns.iter().map(|column| column["name"].as_str().unwrap().to_owned()).collect()
    };
    let live = names(live);
    let absent: Vec<_> = names(django).into_iter().filter(|name| !live.contains(name)).collect();
    let rests_on_absent = |entry: &Value| {
        let text = entry.to_string();
        text.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| absent.iter().any(|name| name == word))
    };
    let mut kept = django.clone();
    for aspect in kept.as_object_mut().unwrap().values_mut() {
        aspect.as_array_mut().unwrap().retain(|entry| !rests_on_absent(entry));
    }
    kept
}

fn sorted(list: &Value) -> Value {
    let mut list: Vec<Value> = list.as_array().unwrap().clone();
    list.sort_by_key(ToString::to_string);
    json!(list)
}
