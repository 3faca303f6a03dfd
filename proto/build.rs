//! Compiles the `.proto` files, with no `protoc` installed, into code and a descriptor set that keeps their comments.

use std::path::{Path, PathBuf};
use std::{env, error, fs};

use prost::Message as _;

const FILES: [&str; 6] = [
    "reprise/control/v1/audit_service.proto",
    "reprise/control/v1/errors.proto",
    "reprise/control/v1/fleet_service.proto",
    "reprise/control/v1/job_service.proto",
    "reprise/control/v1/offset_range_service.proto",
    "reprise/control/v1/whitelist_service.proto",
];

fn main() -> Result<(), Box<dyn error::Error>> {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").ok_or("cargo names the crate's folder")?);
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo names a folder for what is generated")?);
    println!("cargo::rerun-if-changed={}", root.join("reprise").display());
    let files = compile(&root)?;
    fs::write(out.join("descriptor_set.bin"), files.encode_to_vec())?;
    tonic_prost_build::configure().compile_fds(files)?;
    Ok(())
}

/// Resolves the files and all that they import; source information is what `grpcurl describe` prints as comments.
fn compile(root: &Path) -> Result<prost_types::FileDescriptorSet, Box<dyn error::Error>> {
    let mut compiler = protox::Compiler::new([root])?;
    compiler.include_imports(true).include_source_info(true);
    for file in FILES {
        compiler.open_file(root.join(file))?;
    }
    Ok(compiler.file_descriptor_set())
}
