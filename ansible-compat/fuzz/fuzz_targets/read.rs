//! Any bytes as an inventory of each format, as `group_vars`, as a list and as a pattern: an answer or a refusal, no panic.
#![no_main]

use ansible_compat::{Edition, Export, Inventory, Reading, Source};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir().expect("a temporary directory");
    std::fs::create_dir(folder.path().join("group_vars")).expect("a directory");
    std::fs::write(folder.path().join("group_vars/all"), bytes).expect("a file");
    for edition in [Edition::Core2_18, Edition::Core2_19] {
        for name in ["hosts", "hosts.ini", "hosts.yml", "hosts.json"] {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).expect("a file");
            // Nothing is run: the default permits no scripts and no plugins.
            let reading = Reading { edition, ..Reading::default() };
            if let Ok(inventory) = reading.load(&[Source::Path(path)]) {
                let _shown = (inventory.to_list_json(Export::Yes), inventory.to_list_json(Export::No), inventory.to_graph());
            }
        }
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let inventory = Inventory::load(&[Source::List("web1,web2,db1".to_owned())]).expect("a list of three");
    let _selected = inventory.selection(text).is_ok();
    let _list = Inventory::load(&[Source::List(format!("{text},"))]).is_ok();
});
