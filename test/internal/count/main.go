// Count reads `go test -json` on its standard input and shows it to people: a line for each package, the output of each
// test that failed, and a closing line "N passed, N failed, N skipped". It exits with 1 when anything failed.
//
// It owns that format only; it may import the standard library, and must know nothing of the tests.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
)

// event is one line of `go test -json` (go doc test2json).
type event struct {
	Action  string
	Package string
	Test    string
	Elapsed float64
	Output  string
	// ImportPath is set instead of Package where a build failed.
	ImportPath string
}

func main() {
	c := counter{out: os.Stdout, output: map[string][]string{}, failedTests: map[string]int{}}
	if err := c.read(os.Stdin); err != nil {
		fmt.Fprintf(os.Stderr, "count: %v\n", err)
		os.Exit(2)
	}
	fmt.Printf("%d passed, %d failed, %d skipped\n", c.passed, c.failed, c.skipped)
	if c.failed > 0 || c.passed == 0 {
		os.Exit(1)
	}
}

// counter counts tests and subtests. A package that fails without a failed test (it does not build, it panics, its
// TestMain fails) counts as one failure.
type counter struct {
	out                     io.Writer
	passed, failed, skipped int
	output                  map[string][]string
	failedTests             map[string]int
}

func (c *counter) read(in io.Reader) error {
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			c.line(line)
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (c *counter) line(line []byte) {
	var e event
	if json.Unmarshal(line, &e) != nil || e.Action == "" {
		fmt.Fprintf(c.out, "%s", line) // What the go command itself says.
		return
	}
	if e.Package == "" {
		e.Package = e.ImportPath
	}
	key := e.Package + " " + e.Test
	switch e.Action {
	case "output", "build-output":
		c.output[key] = append(c.output[key], e.Output)
	case "pass", "fail", "skip":
		if e.Test == "" {
			c.endPackage(e)
		} else {
			c.endTest(e)
		}
		delete(c.output, key)
	case "build-fail":
		fmt.Fprintf(c.out, "%s", strings.Join(c.output[key], ""))
		delete(c.output, key)
	}
}

func (c *counter) endTest(e event) {
	switch e.Action {
	case "pass":
		c.passed++
		return
	case "skip":
		c.skipped++
	case "fail":
		c.failed++
		c.failedTests[e.Package]++
	}
	fmt.Fprintf(c.out, "%s %s %s (%.1f s)\n%s", strings.ToUpper(e.Action), e.Package, e.Test, e.Elapsed,
		strings.Join(c.output[e.Package+" "+e.Test], ""))
}

func (c *counter) endPackage(e event) {
	switch {
	case e.Action == "fail" && c.failedTests[e.Package] == 0:
		c.failed++
		fmt.Fprintf(c.out, "FAIL %s: the package itself\n%s", e.Package, c.leftovers(e.Package))
	case e.Action == "fail":
		fmt.Fprintf(c.out, "FAIL %s (%.1f s)\n", e.Package, e.Elapsed)
	case e.Action == "pass":
		fmt.Fprintf(c.out, "ok   %s (%.1f s)\n", e.Package, e.Elapsed)
	}
}

// leftovers is the output of a package and of its tests that never ended.
func (c *counter) leftovers(pkg string) string {
	var b strings.Builder
	for key, lines := range c.output {
		if p, _, _ := strings.Cut(key, " "); p == pkg {
			b.WriteString(strings.Join(lines, ""))
		}
	}
	return b.String()
}
