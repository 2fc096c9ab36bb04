package vswitch

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"testing"

	"github.com/ovn-org/libovsdb/model"
	"github.com/ovn-org/libovsdb/ovsdb"
)

// TestGeneratedIsCurrent compares the generated schema with the file that it is cut from, and the
// generated structs with the schema: a changed vswitch.ovsschema, a changed list of columns or a
// hand-edited struct is found without building modelgen.
func TestGeneratedIsCurrent(t *testing.T) {
	text, err := os.ReadFile("vswitch.ovsschema")
	if err != nil {
		t.Fatal(err)
	}
	var whole, generated ovsdb.DatabaseSchema
	if err := json.Unmarshal([]byte(schema), &generated); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &whole); err != nil {
		t.Fatal(err)
	}
	if generated.Version != whole.Version {
		t.Errorf("generated from version %s, the file is %s", generated.Version, whole.Version)
	}
	structs := map[string]any{OpenvSwitchTable: OpenvSwitch{}, BridgeTable: Bridge{}, PortTable: Port{}, InterfaceTable: Interface{}}
	if len(structs) != len(generated.Tables) {
		t.Errorf("%d tables are generated, %d are known here", len(generated.Tables), len(structs))
	}
	for name, row := range structs {
		got, want := generated.Tables[name], whole.Tables[name]
		columns := map[string]*ovsdb.ColumnSchema{}
		fields := reflect.TypeOf(row)
		for i := range fields.NumField() {
			if tag := fields.Field(i).Tag.Get("ovsdb"); tag != "_uuid" {
				columns[tag] = want.Columns[tag]
			}
		}
		if !reflect.DeepEqual(got.Columns, columns) || !reflect.DeepEqual(got.Indexes, want.Indexes) {
			t.Errorf("table %s differs from vswitch.ovsschema: run go generate ./ovsctl/vswitch", name)
		}
	}
}

// TestRowsAreCopiedByCode: libovsdb copies a row several times for each change of it. It does so by JSON where a model has no method for it, which
// for a bridge costs some allocations for each of its ports.
func TestRowsAreCopiedByCode(t *testing.T) {
	for _, row := range []model.Model{&OpenvSwitch{}, &Bridge{}, &Port{}, &Interface{}} {
		if _, ok := row.(model.CloneableModel); !ok {
			t.Errorf("%T is copied by JSON: generate it with -extended", row)
		}
	}
	ports := func(n int) float64 {
		b := &Bridge{Name: "b", ExternalIDs: map[string]string{"k": "v"}}
		for i := range n {
			b.Ports = append(b.Ports, fmt.Sprintf("%036d", i))
		}
		if got := model.Clone(b); !model.Equal(b, got) || !reflect.DeepEqual(b, got) {
			t.Errorf("a copy of %v is %v", b, got)
		}
		return testing.AllocsPerRun(100, func() { model.Clone(b) })
	}
	if few, many := ports(10), ports(1000); few != many {
		t.Errorf("a copy of a bridge takes %v allocations with 10 ports, %v with 1,000", few, many)
	}
}
