//! The terminal, or what stands in for it: standard output for data, standard error for everything said about it.
//! A reader that goes away (`fleetctl … | head -1`) ends the program quietly, never with a panic.

use std::io::{ErrorKind, IsTerminal as _, Write as _};

use super::text::Zone;

/// 128 + SIGPIPE: what a program ends with that the signal would have ended. Not 0: the report was not read to its end.
const EXIT_READER_GONE: i32 = 141;

/// When to use colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum ColourChoice {
    /// On a terminal, unless `NO_COLOR` is set or the terminal is dumb.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Whether escape sequences are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    /// They are.
    On,
    /// They are not.
    Off,
}

/// Which characters draw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Glyphs {
    /// `✓ ✗ ↩ → █ ▓ ░`
    Unicode,
    /// `--ascii`, or a locale that is not UTF-8.
    Ascii,
}

impl Glyphs {
    /// Something went well.
    pub fn ok(self) -> &'static str {
        match self {
            Self::Unicode => "✓",
            Self::Ascii => "ok:",
        }
    }

    /// Something failed.
    pub fn bad(self) -> &'static str {
        match self {
            Self::Unicode => "✗",
            Self::Ascii => "failed:",
        }
    }

    /// Going back.
    pub fn back(self) -> &'static str {
        match self {
            Self::Unicode => "↩",
            Self::Ascii => "<-",
        }
    }

    /// From here to there.
    pub fn to(self) -> &'static str {
        match self {
            Self::Unicode => "→",
            Self::Ascii => "->",
        }
    }

    /// Between parts of a line.
    pub fn dot(self) -> &'static str {
        match self {
            Self::Unicode => "·",
            Self::Ascii => "|",
        }
    }

    /// The three cells of a bar: done, at work, to do.
    pub fn cells(self) -> [&'static str; 3] {
        match self {
            Self::Unicode => ["█", "▓", "░"],
            Self::Ascii => ["#", "=", "."],
        }
    }

    /// `text` with everything beyond ASCII replaced where only ASCII can be shown.
    pub fn fit(self, text: &str) -> String {
        match self {
            Self::Unicode => text.to_owned(),
            Self::Ascii => text
                .chars()
                .map(|c| match c {
                    '→' => "->".to_owned(),
                    '✓' => "ok:".to_owned(),
                    '✗' => "failed:".to_owned(),
                    '↩' => "<-".to_owned(),
                    '·' => "|".to_owned(),
                    '…' => "...".to_owned(),
                    c if c.is_ascii() => c.to_string(),
                    _ => "?".to_owned(),
                })
                .collect(),
        }
    }
}

/// How much is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verbosity {
    /// `-q`: only what was asked for, and failures.
    Quiet,
    /// As designed.
    Normal,
    /// `-v`: also what is being done.
    Verbose,
}

/// What an accent means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accent {
    /// It went well.
    Good,
    /// It failed.
    Bad,
    /// Look here.
    Notice,
}

/// Where output goes and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Screen {
    /// Colour on standard error.
    pub colour: Colour,
    /// The characters that may be used.
    pub glyphs: Glyphs,
    /// How much is said.
    pub verbosity: Verbosity,
    /// The zone of absolute times in tables.
    pub zone: Zone,
}

impl Screen {
    /// Writes data. A reader that has gone ends the program, as SIGPIPE would.
    pub fn out(&self, text: &str) {
        let text = self.glyphs.fit(text);
        let mut stdout = std::io::stdout().lock();
        let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
        if let Err(error) = written {
            if error.kind() != ErrorKind::BrokenPipe {
                // A full disk behind a redirection: the report is not complete, and the exit code must say so.
                let _ = writeln!(std::io::stderr(), "error: cannot write the output: {error}");
                std::process::exit(i32::from(fleet::outcome::exit::FAILED));
            }
            std::process::exit(EXIT_READER_GONE);
        }
    }

    /// Says something to the person, on standard error, unless `-q`.
    pub fn say(&self, text: &str) {
        if self.verbosity != Verbosity::Quiet {
            self.insist(text);
        }
    }

    /// Says something even with `-q`.
    pub fn insist(&self, text: &str) {
        // If standard error is gone there is nobody left to tell.
        let _ = writeln!(std::io::stderr(), "{}", self.glyphs.fit(text));
    }

    /// `text` in the colour of `accent`, if there is colour.
    pub fn paint(&self, accent: Accent, text: &str) -> String {
        let code = match accent {
            Accent::Good => "32",
            Accent::Bad => "31",
            Accent::Notice => "33",
        };
        match self.colour {
            Colour::On => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
            Colour::Off => text.to_owned(),
        }
    }

    /// Whether a live view can be drawn: a person looks at standard error, and the terminal knows its tricks.
    pub fn is_live(&self) -> bool {
        self.verbosity != Verbosity::Quiet
            && std::io::stderr().is_terminal()
            && std::env::var_os("TERM").is_none_or(|t| t != "dumb")
    }

    /// The columns and rows of the terminal on standard error, or 80 by 24.
    pub fn size(&self) -> (usize, usize) {
        terminal_size::terminal_size_of(std::io::stderr())
            .map_or((80, 24), |(w, h)| (usize::from(w.0), usize::from(h.0)))
    }
}

/// What the environment says about output, as plain values, so that the rules can be tested.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// `NO_COLOR`.
    pub no_color: Option<String>,
    /// `CLICOLOR_FORCE`.
    pub clicolor_force: Option<String>,
    /// `TERM`.
    pub term: Option<String>,
    /// The first of `LC_ALL`, `LC_CTYPE`, `LANG` that is not empty.
    pub locale: Option<String>,
    /// Whether standard error is a terminal.
    pub terminal: bool,
}

impl Surroundings {
    /// Reads the process' own environment.
    pub fn of_process() -> Self {
        let var = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
        Self {
            no_color: var("NO_COLOR"),
            clicolor_force: var("CLICOLOR_FORCE"),
            term: var("TERM"),
            locale: var("LC_ALL").or_else(|| var("LC_CTYPE")).or_else(|| var("LANG")),
            terminal: std::io::stderr().is_terminal(),
        }
    }

    /// Whether to use colour (no-color.org, bixense.com/clicolors).
    pub fn colour(&self, choice: ColourChoice) -> Colour {
        let on = match choice {
            ColourChoice::Always => true,
            ColourChoice::Never => false,
            ColourChoice::Auto if self.no_color.is_some() => false,
            ColourChoice::Auto if self.clicolor_force.as_deref().is_some_and(|v| v != "0") => true,
            ColourChoice::Auto => self.terminal && self.term.as_deref() != Some("dumb"),
        };
        if on { Colour::On } else { Colour::Off }
    }

    /// Which characters to draw with. Without any locale, as in cron and most containers, bytes are passed through:
    /// what reads them is a mail or a log, and both have been UTF-8 for long.
    pub fn glyphs(&self) -> Glyphs {
        match self.locale.as_deref().map(str::to_ascii_lowercase) {
            Some(locale) if !locale.contains("utf-8") && !locale.contains("utf8") => Glyphs::Ascii,
            Some(_) | None => Glyphs::Unicode,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_follows_the_conventions() {
        let terminal = Surroundings { terminal: true, term: Some("xterm".into()), ..Surroundings::default() };
        let set = || Some("1".to_owned());
        assert_eq!(terminal.colour(ColourChoice::Auto), Colour::On);
        assert_eq!(Surroundings { no_color: set(), ..terminal.clone() }.colour(ColourChoice::Auto), Colour::Off);
        assert_eq!(Surroundings { no_color: set(), ..terminal.clone() }.colour(ColourChoice::Always), Colour::On);
        assert_eq!(
            Surroundings { term: Some("dumb".into()), ..terminal.clone() }.colour(ColourChoice::Auto),
            Colour::Off
        );
        assert_eq!(Surroundings { terminal: false, ..terminal.clone() }.colour(ColourChoice::Auto), Colour::Off);
        assert_eq!(
            Surroundings { terminal: false, clicolor_force: set(), ..terminal }.colour(ColourChoice::Auto),
            Colour::On
        );
    }

    #[test]
    fn a_locale_that_is_not_utf8_gets_ascii() {
        let locale = |text: &str| Surroundings { locale: Some(text.into()), ..Surroundings::default() }.glyphs();
        assert_eq!(locale("en_GB.UTF-8"), Glyphs::Unicode);
        assert_eq!(locale("C.utf8"), Glyphs::Unicode);
        assert_eq!(locale("C"), Glyphs::Ascii);
        assert_eq!(locale("de_DE.ISO-8859-1"), Glyphs::Ascii);
        assert_eq!(Glyphs::Ascii.fit("✓ a → b · ü"), "ok: a -> b | ?");
    }
}
