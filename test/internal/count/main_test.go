package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestCounter(t *testing.T) {
	for name, tt := range map[string]struct {
		in                      string
		passed, failed, skipped int
		shown                   string
	}{
		"subtests count": {in: `{"Action":"pass","Package":"p","Test":"A/x"}
{"Action":"pass","Package":"p","Test":"A"}
{"Action":"pass","Package":"p","Elapsed":1}`, passed: 2, shown: "ok   p"},
		"failure shows its output": {in: `{"Action":"output","Package":"p","Test":"A","Output":"why\n"}
{"Action":"fail","Package":"p","Test":"A"}
{"Action":"fail","Package":"p"}`, failed: 1, shown: "why\n"},
		"skip shows its reason": {in: `{"Action":"output","Package":"p","Test":"A","Output":"no root\n"}
{"Action":"skip","Package":"p","Test":"A"}`, skipped: 1, shown: "no root"},
		"package that does not build": {in: `{"ImportPath":"p","Action":"build-output","Output":"syntax\n"}
{"ImportPath":"p","Action":"build-fail"}
{"Action":"fail","Package":"p","FailedBuild":"p"}`, failed: 1, shown: "syntax"},
		"panic leaves a test without an end": {in: `{"Action":"run","Package":"p","Test":"A"}
{"Action":"output","Package":"p","Test":"A","Output":"panic: x\n"}
{"Action":"fail","Package":"p"}`, failed: 1, shown: "panic: x"},
		"no JSON": {in: "go: no such tool", shown: "go: no such tool"},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			c := counter{out: &out, output: map[string][]string{}, failedTests: map[string]int{}}
			if err := c.read(strings.NewReader(tt.in)); err != nil {
				t.Fatal(err)
			}
			if c.passed != tt.passed || c.failed != tt.failed || c.skipped != tt.skipped || !strings.Contains(out.String(), tt.shown) {
				t.Errorf("%d passed, %d failed, %d skipped, shown %q", c.passed, c.failed, c.skipped, out.String())
			}
		})
	}
}
