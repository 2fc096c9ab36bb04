// Package fences reads the commands out of documents, so that tests run what readers are told to run.
//
// It owns the form: before each fenced block there is a comment `<!-- test: WHERE -->`, where WHERE names what runs it. It may import the
// standard library only, and must not know what the commands do.
package fences

import (
	"fmt"
	"os"
	"strings"
)

// Block is a fenced block of a document.
type Block struct {
	// Where is what the comment before it says.
	Where string
	// Line is where it begins.
	Line  int
	Lines []string
}

// Read gives all blocks of a document. A block without comment is an error: nobody runs it.
func Read(path string) ([]Block, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var all []Block
	where, inside := "", false
	for i, line := range strings.Split(string(text), "\n") {
		mark, marked := strings.CutPrefix(line, "<!-- test: ")
		switch {
		case strings.HasPrefix(line, "```") && inside:
			inside, where = false, ""
		case strings.HasPrefix(line, "```") && where == "":
			return nil, fmt.Errorf("%s:%d: no comment says which test runs this block", path, i+1)
		case strings.HasPrefix(line, "```"):
			inside = true
			all = append(all, Block{Where: where, Line: i + 1})
		case inside:
			b := &all[len(all)-1]
			b.Lines = append(b.Lines, line)
		case marked:
			where = strings.TrimSuffix(mark, " -->")
		}
	}
	return all, nil
}

// Commands are the lines of all blocks that one test runs, without comments at their ends.
func Commands(path, where string) ([]string, error) {
	all, err := Read(path)
	if err != nil {
		return nil, err
	}
	var list []string
	for _, b := range all {
		if b.Where != where {
			continue
		}
		for _, line := range b.Lines {
			line, _, _ = strings.Cut(line, "  # ")
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
				list = append(list, line)
			}
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s has no commands for %s", path, where)
	}
	return list, nil
}
