// Generate writes what packages carry beside the binary and is made from the commands themselves: man pages (compressed) and
// shell completions.
//
//	generate DIR     writes DIR/man/*.1.gz and DIR/completion/{socketplane.bash,_socketplane,socketplane.fish}
//
// It owns these formats only. It may import internal/cli, and must not end up in the agent's binary: what it is made with is large. The
// same commands give the same bytes; SOURCE_DATE_EPOCH is the pages' date.
package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"github.com/socketplane/socketplane/internal/cli"
	"github.com/socketplane/socketplane/internal/config"
	"github.com/socketplane/socketplane/internal/version"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: generate DIR")
		os.Exit(2)
	}
	if err := generate(os.Args[1]); err != nil {
		fmt.Fprintf(os.Stderr, "generate: %v\n", err)
		os.Exit(1)
	}
}

func generate(dir string) error {
	root := cli.Command(cli.Deps{
		Stdout: io.Discard, Stderr: io.Discard, Version: version.Get(), Env: func(string) (string, bool) { return "", false },
		RunAgent: func(context.Context, config.Config) error { return errors.ErrUnsupported },
	})
	root.DisableAutoGenTag = true
	return errors.Join(pages(root, filepath.Join(dir, "man")), completions(root, filepath.Join(dir, "completion")))
}

// pages writes a page for each command that people use.
func pages(root *cobra.Command, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	return page(root, dir)
}

func page(cmd *cobra.Command, dir string) error {
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() && !c.IsAdditionalHelpTopicCommand() {
			if err := page(c, dir); err != nil {
				return err
			}
		}
	}
	var text bytes.Buffer
	header := &doc.GenManHeader{Section: "1", Source: "SocketPlane", Manual: "SocketPlane"}
	if err := doc.GenMan(cmd, header, &text); err != nil {
		return fmt.Errorf("%s: %w", cmd.CommandPath(), err)
	}
	var packed bytes.Buffer
	// Neither a name nor a time in its header: the bytes are the same each time.
	z, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		return err
	}
	if _, err := z.Write(text.Bytes()); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, strings.ReplaceAll(cmd.CommandPath(), " ", "-")+".1.gz"), packed.Bytes(), 0o644)
}

func completions(root *cobra.Command, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return errors.Join(
		root.GenBashCompletionFileV2(filepath.Join(dir, "socketplane.bash"), true),
		root.GenZshCompletionFile(filepath.Join(dir, "_socketplane")),
		root.GenFishCompletionFile(filepath.Join(dir, "socketplane.fish"), true))
}
