//! The interface keeps to buf's STANDARD and COMMENTS rules, as far as they are about names and comments. `./dev check`
//! runs `buf lint` itself where it is installed; this holds everywhere.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use prost::Message as _;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FileDescriptorProto, FileDescriptorSet, ServiceDescriptorProto,
};

/// What is wrong with one file.
struct Linter<'a> {
    file: &'a FileDescriptorProto,
    commented: BTreeSet<&'a [i32]>,
    faults: Vec<String>,
}

fn is_pascal(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_uppercase())
        && name.chars().all(|letter| letter.is_ascii_alphanumeric())
}

fn is_lower_snake(name: &str) -> bool {
    let legal = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_';
    name.chars().all(legal) && !name.contains("__") && !name.starts_with('_') && !name.ends_with('_')
}

fn upper_snake(pascal: &str) -> String {
    let mut text = String::new();
    for (place, letter) in pascal.char_indices() {
        if place > 0 && letter.is_ascii_uppercase() {
            text.push('_');
        }
        text.push(letter.to_ascii_uppercase());
    }
    text
}

impl<'a> Linter<'a> {
    fn new(file: &'a FileDescriptorProto) -> Self {
        let locations = file.source_code_info.iter().flat_map(|info| &info.location);
        let commented = locations.filter(|location| !location.leading_comments().trim().is_empty());
        Self {
            file,
            commented: commented.map(|location| location.path.as_slice()).collect(),
            faults: Vec::new(),
        }
    }

    fn rule(&mut self, holds: bool, rule: &str, what: &str) {
        if !holds {
            self.faults.push(format!("{}: {what}: {rule}", self.file.name()));
        }
    }

    fn comment(&mut self, path: &[i32], what: &str) {
        let holds = self.commented.contains(path);
        self.rule(holds, "COMMENTS", what);
    }

    fn all(mut self) -> Vec<String> {
        let (file, package) = (self.file, self.file.package().to_owned());
        let folder = package.replace('.', "/");
        let stem = file
            .name()
            .strip_prefix(&format!("{folder}/"))
            .and_then(|name| name.strip_suffix(".proto"));
        self.rule(
            stem.is_some_and(is_lower_snake),
            "PACKAGE_DIRECTORY_MATCH or FILE_LOWER_SNAKE_CASE",
            file.name(),
        );
        let versioned = package.rsplit('.').next().is_some_and(|last| last.starts_with('v'));
        self.rule(versioned, "PACKAGE_VERSION_SUFFIX", &package);
        self.rule(file.public_dependency.is_empty(), "IMPORT_NO_PUBLIC", file.name());
        for (place, message) in (0..).zip(&file.message_type) {
            self.message(&[4, place], message);
        }
        for (place, kind) in (0..).zip(&file.enum_type) {
            self.enumeration(&[5, place], kind);
        }
        for (place, service) in (0..).zip(&file.service) {
            self.service(&[6, place], service);
        }
        self.faults
    }

    fn message(&mut self, path: &[i32], message: &DescriptorProto) {
        if message
            .options
            .as_ref()
            .is_some_and(prost_types::MessageOptions::map_entry)
        {
            return;
        }
        self.rule(is_pascal(message.name()), "MESSAGE_PASCAL_CASE", message.name());
        self.comment(path, message.name());
        for (place, field) in (0..).zip(&message.field) {
            let name = format!("{}.{}", message.name(), field.name());
            self.rule(is_lower_snake(field.name()), "FIELD_LOWER_SNAKE_CASE", &name);
            self.comment(&[path, &[2, place]].concat(), &name);
        }
        // A field that may be left out has a group of its own, which nobody wrote.
        let written = message.oneof_decl.iter().filter(|group| !group.name().starts_with('_'));
        for (place, group) in (0..).zip(written) {
            let name = format!("{}.{}", message.name(), group.name());
            self.rule(is_lower_snake(group.name()), "ONEOF_LOWER_SNAKE_CASE", &name);
            self.comment(&[path, &[8, place]].concat(), &name);
        }
        for (place, nested) in (0..).zip(&message.nested_type) {
            self.message(&[path, &[3, place]].concat(), nested);
        }
        for (place, kind) in (0..).zip(&message.enum_type) {
            self.enumeration(&[path, &[4, place]].concat(), kind);
        }
    }

    fn enumeration(&mut self, path: &[i32], kind: &EnumDescriptorProto) {
        self.rule(is_pascal(kind.name()), "ENUM_PASCAL_CASE", kind.name());
        self.comment(path, kind.name());
        let prefix = format!("{}_", upper_snake(kind.name()));
        for (place, value) in (0..).zip(&kind.value) {
            self.rule(value.name().starts_with(&prefix), "ENUM_VALUE_PREFIX", value.name());
            let upper = is_lower_snake(&value.name().to_lowercase()) && !value.name().contains(char::is_lowercase);
            self.rule(upper, "ENUM_VALUE_UPPER_SNAKE_CASE", value.name());
            let zero = (place == 0) == (value.number() == 0);
            self.rule(zero, "ENUM_FIRST_VALUE_ZERO", value.name());
            let unspecified = (value.number() == 0) == value.name().ends_with("_UNSPECIFIED");
            self.rule(unspecified, "ENUM_ZERO_VALUE_SUFFIX", value.name());
            self.comment(&[path, &[2, place]].concat(), value.name());
        }
    }

    fn service(&mut self, path: &[i32], service: &ServiceDescriptorProto) {
        let named = is_pascal(service.name()) && service.name().ends_with("Service");
        self.rule(named, "SERVICE_PASCAL_CASE or SERVICE_SUFFIX", service.name());
        self.comment(path, service.name());
        let mut used = BTreeSet::new();
        for (place, method) in (0..).zip(&service.method) {
            self.rule(is_pascal(method.name()), "RPC_PASCAL_CASE", method.name());
            self.comment(&[path, &[2, place]].concat(), method.name());
            for (kind, rule, of_call) in [
                (method.input_type(), "RPC_REQUEST_STANDARD_NAME", "Request"),
                (method.output_type(), "RPC_RESPONSE_STANDARD_NAME", "Response"),
            ] {
                let standard = format!(".{}.{}{of_call}", self.file.package(), method.name());
                self.rule(kind == standard, rule, method.name());
                self.rule(used.insert(kind), "RPC_REQUEST_RESPONSE_UNIQUE", method.name());
            }
        }
    }
}

#[test]
fn names_and_comments_of_the_interface_are_as_buf_wants_them() -> Result<()> {
    let all = FileDescriptorSet::decode(reprise_proto::FILE_DESCRIPTOR_SET).context("read the descriptors")?;
    let ours: Vec<_> = all
        .file
        .iter()
        .filter(|file| file.package() == reprise_proto::PACKAGE)
        .collect();
    ensure!(ours.len() >= 5, "{} files are ours", ours.len());
    let faults: Vec<String> = ours.into_iter().flat_map(|file| Linter::new(file).all()).collect();
    ensure!(faults.is_empty(), "{}", faults.join("\n"));
    Ok(())
}

#[test]
fn a_name_or_comment_that_breaks_a_rule_is_found() -> Result<()> {
    let all = FileDescriptorSet::decode(reprise_proto::FILE_DESCRIPTOR_SET).context("read the descriptors")?;
    let whitelist = all
        .file
        .into_iter()
        .find(|file| file.name().ends_with("/whitelist_service.proto"));
    let mut file = whitelist.context("no whitelist_service.proto")?;
    file.service[0].method[0].name = Some("Get".to_owned());
    file.message_type[0].field[0].name = Some("dataType".to_owned());
    file.source_code_info = None;
    let faults = Linter::new(&file).all().join("\n");
    for rule in ["RPC_REQUEST_STANDARD_NAME", "FIELD_LOWER_SNAKE_CASE", "COMMENTS"] {
        ensure!(faults.contains(rule), "{rule} is not found:\n{faults}");
    }
    Ok(())
}
