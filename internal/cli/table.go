package cli

import (
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"unicode/utf8"
)

// lineWidth is what every table fits into, in columns: the narrowest terminal that is still usual.
const lineWidth = 80

// shortLen is how much of an id or a commit is shown to people; Docker shows as much.
const shortLen = 12

// short shortens an id; the end of a changed tree's commit stays.
func short(id string) string {
	base, dirty := strings.CutSuffix(id, "-dirty")
	if len(base) > shortLen {
		base = base[:shortLen]
	}
	if dirty {
		base += "-dirty"
	}
	return base
}

// clip shortens v to width columns, with an ellipsis for what is left out.
func clip(v string, width int) string {
	if utf8.RuneCountInString(v) <= width {
		return v
	}
	return string([]rune(v)[:width-1]) + "…"
}

// plain makes v safe for one line of a terminal: names come from other hosts.
func plain(v string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || (r >= 0x7f && r < 0xa0) || r == utf8.RuneError {
			return '?'
		}
		return r
	}, v)
}

// wrap breaks v between words into lines of at most width columns; a longer word has a line to itself.
func wrap(v string, width int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(v) {
		switch {
		case line == "":
			line = word
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) <= width:
			line += " " + word
		default:
			lines = append(lines, line)
			line = word
		}
	}
	return append(lines, line)
}

// columns writes rows as a table; the first row is its head, and all rows have as many cells.
func columns(w io.Writer, rows [][]string) error {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, r := range rows {
		fmt.Fprintln(t, strings.Join(r, "\t"))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	var trimmed strings.Builder
	trimmed.Grow(b.Len())
	for line := range strings.Lines(b.String()) {
		// A row whose last cells are empty would end in spaces.
		trimmed.WriteString(strings.TrimRight(line, " \n"))
		trimmed.WriteByte('\n')
	}
	_, err := io.WriteString(w, trimmed.String()) // one call: a table may have a row for each container of a large cluster
	return err
}

// palette colours words, or leaves them alone.
type palette bool

// paletteFor colours only on a terminal, and not if NO_COLOR is set to anything (https://no-color.org) or the terminal
// is too simple.
func paletteFor(w io.Writer, env func(string) (string, bool)) palette {
	if v, ok := env("NO_COLOR"); ok && v != "" {
		return false
	}
	return palette(terminal(w, env))
}

// terminal says whether w is a terminal that understands escape sequences.
func terminal(w io.Writer, env func(string) (string, bool)) bool {
	if v, _ := env("TERM"); v == "" || v == "dumb" {
		return false
	}
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// bad marks trouble: SGR 31, red.
func (p palette) bad(v string) string {
	if !p {
		return v
	}
	return "\x1b[31m" + v + "\x1b[0m"
}
