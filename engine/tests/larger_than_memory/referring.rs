//! Foreign keys of transactions of which most has moved out of memory.

use super::*;

#[test]
fn rows_that_refer_to_a_key_are_found_though_they_leave_memory_meanwhile() {
    const CHILDREN: i32 = 2500;
    let mut options = tight();
    options.transaction_bytes_max = 8 << 20;
    options.move_bytes = 1 << 20;
    let home = Home::with(options);
    let parent = home.create("p", true);
    home.put(&parent, 1, 0);
    for indexed in [false, true] {
        let name = if indexed { "by_index" } else { "by_key" };
        let mut child = new_table(name, true);
        child.foreign_keys.push(ForeignKeyDef {
            name: "value_fkey".to_owned(),
            columns: vec![1],
            table: parent.def.oid,
            referenced: vec![0],
            on_delete: KeyAction::Cascade,
            on_update: KeyAction::Cascade,
            matching: KeyMatch::Simple,
            deferrable: false,
            deferred: false,
            validated: true,
        });
        if indexed {
            child.indexes = vec![index("value", false)];
        }
        let child = home.create_as(child);
        let parent = home.table("p");
        let mut txn = begin(&home);
        // Scattered, so that they have entries in memory.
        for number in 0..CHILDREN {
            insert(&mut txn, &child, (number * 1009) % CHILDREN, 1);
        }
        let before = private_files(&home);
        let mut children = block_on(txn.children((&child, 0), &[Value::Int4(1)]))
            .unwrap()
            .unwrap();
        let mut found = 0;
        while let Some(batch) = txn.next_children(&mut children).unwrap() {
            found += batch.len();
            for _ in 0..1000 {
                let id = txn.row_writes() as i32;
                insert(&mut txn, &parent, id, 0);
            }
        }
        assert!(private_files(&home) > before, "rows have moved out of memory");
        assert_eq!(found, CHILDREN as usize, "{name}");
        txn.rollback();
    }
}
