//! What is served: files of random bytes, once for all servers, and inventories that name them.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use buildproxy::{FileIngestionMethod, HashAlgo, Hasher, NixHash, StorePathName, build_ca_path};

/// A file that all servers have.
#[derive(Debug, Clone)]
pub struct Material {
    pub name: String,
    pub size: u64,
    hash: NixHash,
}

/// Where it lies: the same inodes in nginx's folder and in buildproxy's store.
pub struct Folder(PathBuf);

impl Folder {
    /// Below `folder`, which is kept for the next time: gigabytes take long to make.
    pub fn new(folder: PathBuf) -> io::Result<Self> {
        for part in ["www", "store"] {
            fs::create_dir_all(folder.join(part))?;
        }
        Ok(Self(folder))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A file of `size` random bytes; a hole of that size where it is `sparse`, with a hash that is not its own.
    pub fn material(&self, name: &str, size: u64, sparse: bool) -> io::Result<Material> {
        let path = self.0.join("www").join(name);
        if !fs::metadata(&path).is_ok_and(|metadata| metadata.len() == size) {
            let new = self.0.join("new");
            let mut file = File::create(&new)?;
            if sparse {
                file.set_len(size)?
            } else {
                write_random(&mut file, size)?
            }
            fs::rename(&new, &path)?;
        }
        let hash = if sparse { NixHash::sha256(name.as_bytes()) } else { hash_file(&path)? };
        let material = Material { name: name.to_owned(), size, hash };
        let in_store = self.0.join("store").join(material.store_name()?);
        if !fs::exists(&in_store)? {
            fs::hard_link(&path, &in_store)?;
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o444))?;
        Ok(material)
    }

    /// Reads `material` once.
    pub fn read(&self, material: &Material) -> io::Result<()> {
        io::copy(&mut File::open(self.path("www").join(&material.name))?, &mut io::sink()).map(drop)
    }

    /// Has the kernel forget what it read of `material`.
    pub fn drop_from_cache(&self, material: &Material) -> io::Result<()> {
        let file = File::open(self.path("www").join(&material.name))?;
        // Only what is on the disk can be forgotten.
        file.sync_all()?;
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
        Ok(())
    }

    /// An inventory with `materials`, by HTTP and HTTPS, among others; `entries` in all.
    pub fn inventory(&self, name: &str, materials: &[Material], entries: usize) -> io::Result<PathBuf> {
        let mut text = "version = 1\n".to_owned();
        for material in materials {
            for scheme in ["http", "https"] {
                text += &material.entry(&format!("{scheme}://localhost/{}", material.name))?;
            }
        }
        // The others are as in a real one; the first material's bytes are as good as any.
        for number in 2 * materials.len()..entries {
            let url = format!(
                "https://registry.example.org/packages/package-{number}/-/package-{number}-1.{}.0.tgz",
                number % 97
            );
            text += &materials[0].entry(&url)?;
        }
        let path = self.0.join(format!("{name}-{entries}.toml"));
        fs::write(&path, text)?;
        Ok(path)
    }

    /// The same for `linear_replay.py`.
    pub fn list(&self, materials: &[Material]) -> io::Result<PathBuf> {
        let mut text = String::new();
        for material in materials {
            let path = self.0.join("www").join(&material.name);
            for scheme in ["http", "https"] {
                text += &format!("{scheme}://localhost/{}\t{}\n", material.name, path.display());
            }
        }
        let path = self.0.join("list.tsv");
        fs::write(&path, text)?;
        Ok(path)
    }
}

impl Material {
    pub fn path(&self) -> String {
        format!("/{}", self.name)
    }

    fn store_name(&self) -> io::Result<String> {
        let name = StorePathName::new(&self.name).map_err(io::Error::other)?;
        let path = build_ca_path(&name, FileIngestionMethod::Flat, &self.hash).to_absolute_path();
        Ok(path.rsplit('/').next().unwrap_or_default().to_owned())
    }

    fn entry(&self, url: &str) -> io::Result<String> {
        let Self { name, size, hash } = self;
        Ok(format!(
            "\n[[entry]]\nurl = \"{url}\"\nbody = {{ hash = \"{hash}\", size = {size}, name = \"{name}\" }}\n\
             [entry.headers]\ncontent-type = \"application/octet-stream\"\netag = '\"{}\"'\n\
             last-modified = \"Mon, 02 Nov 2026 10:00:00 GMT\"\n",
            &hash.to_hex()[..16]
        ))
    }
}

/// Bytes that do not compress, from a generator that is as fast as a disk (xorshift64*).
fn write_random(file: &mut File, size: u64) -> io::Result<()> {
    let mut state = size | 1;
    let mut left = size;
    while left > 0 {
        let mut chunk = Vec::with_capacity(1 << 20);
        while chunk.len() < 1 << 20 {
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            chunk.extend_from_slice(&state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes());
        }
        let length = usize::try_from(left).map_or(chunk.len(), |left| left.min(chunk.len()));
        file.write_all(&chunk[..length])?;
        left -= length as u64;
    }
    Ok(())
}

fn hash_file(path: &Path) -> io::Result<NixHash> {
    let (mut file, mut hasher, mut chunk) = (File::open(path)?, Hasher::new(HashAlgo::Sha256), vec![0; 1 << 20]);
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(hasher.finish()),
            length => hasher.update(&chunk[..length]),
        }
    }
}
