package mirror

import (
	"context"
	"errors"

	"github.com/socketplane/socketplane/internal/dockerwatch"
	"github.com/socketplane/socketplane/store"
)

// maxLabels bounds the labels that are told to other hosts, in bytes of keys and values: names matter there, not
// the documents that some tools keep in labels.
const maxLabels = 4096

// describe tells the other hosts which containers have this host's endpoints.
func (m *Mirror) describe(ctx context.Context) error {
	known := m.driver.Described()
	if len(known) == 0 {
		return nil
	}
	attached, err := m.docker.Attachments(ctx, func(endpoint, name string) bool {
		c, ours := known[endpoint]
		return ours && (c == nil || c.Name != name)
	})
	if err != nil {
		return err
	}
	var errs []error
	for _, a := range attached {
		errs = append(errs, m.driver.Describe(ctx, a.NetworkID, a.EndpointID, container(a)))
	}
	return errors.Join(errs...)
}

func container(a dockerwatch.Attachment) store.Container {
	c := store.Container{ID: a.ContainerID, Name: a.Name, Aliases: a.Aliases}
	size := 0
	for k, v := range a.Labels {
		size += len(k) + len(v)
	}
	if size <= maxLabels {
		c.Labels = a.Labels
	}
	return c
}
