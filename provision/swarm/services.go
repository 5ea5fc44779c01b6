package swarm

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/pkg/stdcopy"
	"github.com/hashicorp/go-multierror"
	"github.com/hiveproof/hiveproof/provision"
)

// Task is one task of a service, in the terms of the site.
type Task struct {
	ID        string    `json:"id"`
	Service   string    `json:"service"`
	Slot      int       `json:"slot,omitempty"`
	Node      string    `json:"node"` // host name; empty while it is not assigned
	Desired   string    `json:"desired"`
	State     string    `json:"state"`
	Message   string    `json:"message,omitempty"`
	Err       string    `json:"error,omitempty"`
	Container string    `json:"container,omitempty"`
	Since     time.Time `json:"since"`
	// Addresses are the task's own on its networks, by their names.
	Addresses map[string]netip.Addr `json:"addresses,omitempty"`
}

// Running says whether the task runs and is meant to.
func (t Task) Running() bool {
	return t.State == string(swarm.TaskStateRunning) && t.Desired == string(swarm.TaskStateRunning)
}

// NotConvergedError says which services did not come up, and what their tasks say.
type NotConvergedError struct {
	After    time.Duration
	Names    []string // of the services
	Services []string // "powerdns: 1 of 2 tasks run"
	Tasks    []string // "powerdns.2 on hive1: rejected: No such image"
}

func (e *NotConvergedError) Error() string {
	text := fmt.Sprintf("services did not converge within %s: %s", e.After.Round(time.Second), strings.Join(e.Services, "; "))
	if len(e.Tasks) > 0 {
		text += "; tasks:\n  " + strings.Join(e.Tasks, "\n  ")
	}
	return text
}

// Create creates services; the images must be on the hosts, no registry is asked.
func (s *Swarm) Create(ctx context.Context, specs []swarm.ServiceSpec) error {
	engine, host, err := s.Manager(ctx)
	if err != nil {
		return err
	}
	for _, spec := range specs {
		if _, err := engine.ServiceCreate(ctx, spec, swarm.ServiceCreateOptions{}); err != nil {
			return fmt.Errorf("%s: create service %s: %w", host, spec.Name, err)
		}
	}
	return nil
}

// EnsureNetworks creates the overlay networks that are not there yet.
func (s *Swarm) EnsureNetworks(ctx context.Context, networks map[string]network.CreateOptions) error {
	engine, host, err := s.Manager(ctx)
	if err != nil {
		return err
	}
	for name, options := range networks {
		_, err := engine.NetworkInspect(ctx, name, network.InspectOptions{Scope: "swarm"})
		if err == nil {
			continue
		}
		if !errdefs.IsNotFound(err) {
			return fmt.Errorf("%s: look for network %s: %w", host, name, err)
		}
		if _, err := engine.NetworkCreate(ctx, name, options); err != nil {
			return fmt.Errorf("%s: create network %s: %w", host, name, err)
		}
	}
	return nil
}

// hopeless is how many tasks of a service may fail one after another before it is
// given up: nobody waits for the deadline if an image is nowhere.
const hopeless = 5

// WaitConverged waits until every named service runs as many tasks as the
// swarm wants of it. Its error at the deadline, or when those that are missing only
// fail, is a *NotConvergedError.
func (s *Swarm) WaitConverged(ctx context.Context, names []string, timeout time.Duration, progress func(running, desired int)) error {
	started := time.Now()
	last := [2]int{-1, -1}
	var missing, absent []string
	var givenUp error
	err := Until(ctx, timeout, "wait for the services", func(ctx context.Context) error {
		engine, _, err := s.Manager(ctx)
		if err != nil {
			return err
		}
		services, err := engine.ServiceList(ctx, swarm.ServiceListOptions{Status: true})
		if err != nil {
			return fmt.Errorf("list the services: %w", err)
		}
		var running, desired int
		missing, absent = missing[:0], absent[:0]
		for _, name := range names {
			i := slices.IndexFunc(services, func(s swarm.Service) bool { return s.Spec.Name == name })
			if i < 0 || services[i].ServiceStatus == nil {
				missing, absent = append(missing, name+": is not there"), append(absent, name)
				continue
			}
			st := services[i].ServiceStatus
			running += int(st.RunningTasks)
			desired += int(st.DesiredTasks)
			if st.DesiredTasks == 0 || st.RunningTasks != st.DesiredTasks {
				missing = append(missing, fmt.Sprintf("%s: %d of %d tasks run", name, st.RunningTasks, st.DesiredTasks))
				absent = append(absent, name)
			}
		}
		if now := [2]int{running, desired}; now != last && progress != nil {
			last = now
			progress(running, desired)
		}
		if len(missing) == 0 {
			return nil
		}
		givenUp = nil
		if failing, err := s.onlyFail(ctx, absent); err == nil && failing {
			givenUp = errors.New(strings.Join(missing, "; "))
			return nil
		}
		return errors.New(strings.Join(missing, "; "))
	})
	if err == nil {
		err = givenUp
	}
	if err == nil || ctx.Err() != nil {
		return err
	}
	notConverged := &NotConvergedError{After: time.Since(started), Services: missing, Names: absent}
	if len(missing) == 0 { // not even the services could be listed
		return err
	}
	after, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	tasks, taskErr := s.Tasks(after, names...)
	for _, t := range tasks {
		if t.Running() {
			continue
		}
		// A task that was tried again and again says the same each time.
		if text := t.describe(); !slices.Contains(notConverged.Tasks, text) {
			notConverged.Tasks = append(notConverged.Tasks, text)
		}
	}
	return errors.Join(notConverged, taskErr)
}

// onlyFail says whether each service has had its share of failed tasks and none
// that runs.
func (s *Swarm) onlyFail(ctx context.Context, services []string) (bool, error) {
	tasks, err := s.Tasks(ctx, services...)
	if err != nil {
		return false, err
	}
	failed, running := map[string]int{}, map[string]bool{}
	for _, t := range tasks {
		switch swarm.TaskState(t.State) {
		case swarm.TaskStateFailed, swarm.TaskStateRejected:
			failed[t.Service]++
		case swarm.TaskStateRunning:
			running[t.Service] = true
		}
	}
	for _, name := range services {
		if running[name] || failed[name] < hopeless {
			return false, nil
		}
	}
	return true, nil
}

func (t Task) describe() string {
	name := t.Service
	if t.Slot > 0 {
		name = fmt.Sprintf("%s.%d", t.Service, t.Slot)
	}
	where := "not assigned"
	if t.Node != "" {
		where = "on " + t.Node
	}
	text := fmt.Sprintf("%s %s: %s", name, where, t.State)
	if t.Err != "" {
		return text + ": " + t.Err
	}
	return text + ": " + t.Message
}

// Tasks lists the tasks of services, or of all if none is named, by service,
// slot, node and age.
func (s *Swarm) Tasks(ctx context.Context, names ...string) ([]Task, error) {
	engine, host, err := s.Manager(ctx)
	if err != nil {
		return nil, err
	}
	filter := filters.NewArgs()
	for _, name := range names {
		filter.Add("service", name)
	}
	listed, err := engine.TaskList(ctx, swarm.TaskListOptions{Filters: filter})
	if err != nil {
		return nil, fmt.Errorf("%s: list the tasks: %w", host, err)
	}
	services, err := engine.ServiceList(ctx, swarm.ServiceListOptions{})
	if err != nil {
		return nil, fmt.Errorf("%s: list the services: %w", host, err)
	}
	nodes, err := engine.NodeList(ctx, swarm.NodeListOptions{})
	if err != nil {
		return nil, fmt.Errorf("%s: list the nodes: %w", host, err)
	}
	serviceName, nodeName := map[string]string{}, map[string]string{}
	for _, v := range services {
		serviceName[v.ID] = v.Spec.Name
	}
	for _, n := range nodes {
		nodeName[n.ID] = n.Description.Hostname
	}
	tasks := make([]Task, 0, len(listed))
	for _, t := range listed {
		task := Task{
			ID: t.ID, Service: serviceName[t.ServiceID], Slot: t.Slot, Node: nodeName[t.NodeID],
			Desired: string(t.DesiredState), State: string(t.Status.State),
			Message: t.Status.Message, Err: t.Status.Err, Since: t.Status.Timestamp,
		}
		for _, a := range t.NetworksAttachments {
			for _, text := range a.Addresses {
				if prefix, err := netip.ParsePrefix(text); err == nil {
					if task.Addresses == nil {
						task.Addresses = map[string]netip.Addr{}
					}
					task.Addresses[a.Network.Spec.Name] = prefix.Addr()
				}
			}
		}
		if t.Status.ContainerStatus != nil {
			task.Container = t.Status.ContainerStatus.ContainerID
		}
		tasks = append(tasks, task)
	}
	slices.SortFunc(tasks, func(a, b Task) int {
		return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Slot, b.Slot),
			cmp.Compare(a.Node, b.Node), a.Since.Compare(b.Since))
	})
	return tasks, nil
}

// Remove removes services and waits until none of their containers is left on
// any host, so that the next deployment finds their ports free.
func (s *Swarm) Remove(ctx context.Context, names []string, timeout time.Duration) error {
	engine, host, err := s.Manager(ctx)
	if err != nil {
		return err
	}
	var problems *multierror.Error
	for _, name := range names {
		if err := engine.ServiceRemove(ctx, name); err != nil && !errdefs.IsNotFound(err) {
			problems = multierror.Append(problems, fmt.Errorf("%s: remove service %s: %w", host, name, err))
		}
	}
	err = Until(ctx, timeout, "wait for the containers to be gone", func(ctx context.Context) error {
		for _, n := range s.nodes {
			for _, name := range names {
				left, err := n.Engine.ContainerList(ctx, container.ListOptions{
					All: true, Filters: filters.NewArgs(filters.Arg("label", "com.docker.swarm.service.name="+name)),
				})
				if err != nil {
					return fmt.Errorf("%s: list the containers: %w", n.Name(), err)
				}
				if len(left) > 0 {
					return fmt.Errorf("%s still has %d container(s) of %s", n.Name(), len(left), name)
				}
			}
		}
		return nil
	})
	if err != nil {
		problems = multierror.Append(problems, err)
	}
	return problems.ErrorOrNil()
}

// Exec runs a program in a container of a task and returns its standard output.
// A program that exits other than 0 is a *provision.ExitError.
func (s *Swarm) Exec(ctx context.Context, t Task, command ...string) ([]byte, error) {
	n := s.Node(t.Node)
	if n == nil || t.Container == "" {
		return nil, fmt.Errorf("task %s of %s runs in no container of this site", t.ID, t.Service)
	}
	fail := func(err error) ([]byte, error) {
		return nil, fmt.Errorf("%s: run %s in a container of %s: %w", n.Name(), command[0], t.Service, err)
	}
	created, err := n.Engine.ContainerExecCreate(ctx, t.Container, container.ExecOptions{Cmd: command, AttachStdout: true, AttachStderr: true})
	if err != nil {
		return fail(err)
	}
	attached, err := n.Engine.ContainerExecAttach(ctx, created.ID, container.ExecAttachOptions{})
	if err != nil {
		return fail(err)
	}
	defer attached.Close()
	// Reading takes no context: closing the connection ends it.
	stop := context.AfterFunc(ctx, attached.Close)
	defer stop()
	var stdout, stderr bytes.Buffer
	if _, err := stdcopy.StdCopy(&stdout, &stderr, attached.Reader); err != nil {
		return fail(err)
	}
	result, err := n.Engine.ContainerExecInspect(ctx, created.ID)
	if err != nil {
		return fail(err)
	}
	if result.ExitCode != 0 {
		return stdout.Bytes(), &provision.ExitError{
			Host: n.Name(), Command: strings.Join(command, " "), Status: result.ExitCode, Stderr: strings.TrimSpace(stderr.String()),
		}
	}
	return stdout.Bytes(), nil
}
