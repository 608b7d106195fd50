//! The layers a configuration is made of, merged by figment. Reads; judges nothing.

use std::{io::ErrorKind, path::PathBuf, str::FromStr};

use figment::{
    Figment, Metadata, Profile, Provider,
    providers::{Env, Format, Toml},
    value::{Dict, Map, Value},
};

use super::{Problem, Problems};

/// Variables that begin with the prefix but are no configuration.
const NOT_CONFIGURATION: [&str; 1] = ["log"];
/// What the flag layer calls itself; `Origin` knows it by this.
pub(super) const FLAG: &str = "--set";

/// Where a configuration is read from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The file.
    pub file: PathBuf,
    /// `key=value` each, from the command line.
    pub set: Vec<String>,
}

impl Sources {
    /// A file, with nothing from the command line.
    #[must_use]
    pub fn file(file: impl Into<PathBuf>) -> Self {
        Self { file: file.into(), set: Vec::new() }
    }

    /// Merges the layers.
    pub(super) fn merge(&self) -> Result<Figment, Problems> {
        let text = self.text()?;
        // Parsed from the text, so that a missing or unreadable file is not silently an empty one.
        let file = FileLayer { path: self.file.clone(), text };
        let env = Env::prefixed("LOCUM_").ignore(&NOT_CONFIGURATION).split("__");
        let figment = Figment::new().merge(file).merge(env).merge(FlagLayer::parse(&self.set)?);
        match figment.find_value("") {
            Ok(_) => Ok(figment),
            Err(error) => Err(Problem::error(
                self.file.display().to_string(),
                format!("is no valid TOML: {}", error.kind.to_string().trim_end()),
                "Mend the line; `locum config example` prints a complete, valid file.",
            )
            .into()),
        }
    }

    fn text(&self) -> Result<String, Problems> {
        std::fs::read_to_string(&self.file).map_err(|error| {
            let file = self.file.display();
            let fix = match error.kind() {
                ErrorKind::NotFound => {
                    format!("Name the file with -c FILE, or begin one with `locum config example > {file}`.")
                }
                ErrorKind::PermissionDenied => {
                    "Run as a user who may read it, or give that user the right to.".to_owned()
                }
                _ => "Name another file with -c FILE.".to_owned(),
            };
            Problem::error(file.to_string(), format!("cannot be read: {error}"), fix).into()
        })
    }
}

struct FileLayer {
    path: PathBuf,
    text: String,
}

impl Provider for FileLayer {
    fn metadata(&self) -> Metadata {
        Metadata::from("file", self.path.as_path())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Toml::string(&self.text).data()
    }
}

struct FlagLayer(Vec<(String, Value)>);

impl FlagLayer {
    fn parse(set: &[String]) -> Result<Self, Problems> {
        let one = |text: &String| match text.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() => {
                // Reading a value as TOML never fails: what is nothing else is a text.
                let value = Value::from_str(value).unwrap_or_else(|never| match never {});
                Ok((key.trim().to_owned(), value))
            }
            _ => Err(Problem::error(
                format!("{FLAG} {text}"),
                "does not name a key and its value",
                "Write it as --set policy.hang=3s.",
            )),
        };
        Ok(Self(set.iter().map(one).collect::<Result<_, _>>()?))
    }
}

impl Provider for FlagLayer {
    fn metadata(&self) -> Metadata {
        Metadata::named(FLAG)
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let mut dict = Dict::new();
        for (key, value) in &self.0 {
            insert(&mut dict, key, value.clone());
        }
        Ok(Profile::Default.collect(dict))
    }
}

fn insert(dict: &mut Dict, key: &str, value: Value) {
    let Some((first, rest)) = key.split_once('.') else {
        dict.insert(key.to_owned(), value);
        return;
    };
    let below = dict.entry(first.to_owned()).or_insert_with(|| Value::from(Dict::new()));
    if !matches!(below, Value::Dict(..)) {
        *below = Value::from(Dict::new());
    }
    if let Value::Dict(_, below) = below {
        insert(below, rest, value);
    }
}
