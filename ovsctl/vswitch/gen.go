//go:build ignore

// Command gen cuts vswitch.ovsschema down to the columns that SocketPlane uses and hands the rest
// to modelgen. Run it by "go generate ./ovsctl/vswitch".
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
)

// modelgen is built in a module of its own, at the version that go.mod has of the library: its
// templates would bring modules that no binary of ours needs. ("go run PATH@VERSION" is no way: it
// asks the proxy for the list of versions, and not every proxy gives it.)
const (
	modelgen = "github.com/ovn-org/libovsdb/cmd/modelgen"
	module   = "module gen\n\ngo 1.26\n\nrequire github.com/ovn-org/libovsdb v0.7.0\n"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("gen: ")
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	dir, err := os.MkdirTemp("", "vswitch-gen-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	cut := filepath.Join(dir, "cut.ovsschema")
	if err := write(cut); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte(module), 0o600); err != nil {
		return err
	}
	here, err := os.Getwd()
	if err != nil {
		return err
	}
	cmd := exec.Command("go", "run", "-mod=mod", modelgen, "-extended", "-p", "vswitch", "-o", here, cut)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, os.Stdout, os.Stderr
	return cmd.Run()
}

func write(path string) error {
	columns := map[string][]string{
		"Open_vSwitch": {"bridges", "cur_cfg", "datapath_types", "external_ids", "next_cfg", "other_config", "ovs_version"},
		"Bridge": {"controller", "datapath_id", "datapath_type", "external_ids", "fail_mode", "mcast_snooping_enable",
			"name", "other_config", "ports", "protocols", "rstp_enable", "stp_enable"},
		"Port":      {"external_ids", "interfaces", "name"},
		"Interface": {"error", "external_ids", "link_state", "name", "ofport", "ofport_request", "options", "type"},
	}
	text, err := os.ReadFile("vswitch.ovsschema")
	if err != nil {
		return err
	}
	var schema map[string]any
	if err := json.Unmarshal(text, &schema); err != nil {
		return fmt.Errorf("vswitch.ovsschema: %w", err)
	}
	all, tables := schema["tables"].(map[string]any), map[string]any{}
	for name, wanted := range columns {
		table, ok := all[name].(map[string]any)
		if !ok {
			return fmt.Errorf("the schema has no table %s", name)
		}
		kept := map[string]any{}
		for _, column := range wanted {
			kept[column] = table["columns"].(map[string]any)[column]
			if kept[column] == nil {
				return fmt.Errorf("the schema's table %s has no column %s", name, column)
			}
		}
		table["columns"], tables[name] = kept, table
	}
	schema["tables"] = tables
	if text, err = json.Marshal(schema); err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o600)
}
