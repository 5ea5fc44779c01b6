package recipe

import (
	"fmt"
	"slices"
)

// HivePlugin is the value of the key plugin that makes a file a hive definition.
const HivePlugin = "hive_inventory"

// Hive is what a hive definition (hive-builder's hive_inventory.py) says about the
// hosts of a site.
type Hive struct {
	Name   string
	Stages []*HiveStage // in the order of the file
}

// HiveStage is one stage of a hive.
type HiveStage struct {
	Position Position // of the name
	Name     string   // private, staging or production
	Provider string
	Hosts    int
	// SeparateRepository is true if the last host is the repository and holds no
	// containers; that is the default.
	SeparateRepository bool
}

// ContainerHosts is the number of hosts that hold containers.
func (s *HiveStage) ContainerHosts() int {
	if s.SeparateRepository {
		return s.Hosts - 1
	}
	return s.Hosts
}

// Stage looks a stage up by name; nil if the hive does not define it.
func (h *Hive) Stage(name string) *HiveStage {
	for _, s := range h.Stages {
		if s.Name == name {
			return s
		}
	}
	return nil
}

// ParseHiveFile reads the hive definition at path, see ParseHive.
func ParseHiveFile(path string, vars map[string]string) (*Hive, error) {
	src, err := readFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading a hive definition: %w", err)
	}
	return ParseHive(path, src, vars)
}

// ParseHive reads of a hive definition how many hosts each stage has, with vars
// put into its templates. Keys that do not bear on that are left to hive-builder.
// name stands for the file in positions. On bad input the error is Problems.
func ParseHive(name string, src []byte, vars map[string]string) (*Hive, error) {
	d := &decoder{complaints: &complaints{}, needed: make(map[*node]bool)}
	root := parseTree(name, src, d.complaints).root
	h := &Hive{}
	switch {
	case root != nil:
		d.hive(h, fill(root, vars))
	case len(d.complaints.list) == 0:
		d.complain(Position{File: name, Line: 1, Column: 1}, "the file is empty; a hive definition has plugin: %s and stages", HivePlugin)
	}
	for n := range d.needed {
		d.complain(n.pos, "%s is a template that no variable resolves", n.describe())
	}
	if problems := d.complaints.sorted(); len(problems) > 0 {
		return nil, problems
	}
	return h, nil
}

func (d *decoder) hive(h *Hive, root *node) {
	if !d.isMap(root, "a hive definition") {
		return
	}
	plugin := root.get("plugin")
	switch {
	case plugin == nil:
		d.complain(root.pos, "no plugin: a hive definition says plugin: %s", HivePlugin)
		return
	case plugin.kind != kindString || plugin.text != HivePlugin:
		d.complain(plugin.pos, "plugin must be %s, not %s", HivePlugin, plugin.describe())
		return
	}
	d.require(RuleValue, root, "a hive definition", "name", "stages")
	if n := root.get("name"); n != nil {
		h.Name = d.word(n, "name")
	}
	list := root.get("stages")
	if list == nil || !d.isMap(list, "stages") {
		return
	}
	if len(list.entries) == 0 {
		d.complain(list.pos, "stages is empty: the hive has no hosts")
	}
	for _, e := range list.entries {
		if !slices.Contains(stages, e.key.text) {
			d.complain(e.key.pos, "a stage must be %s, not %s", OneOf(stages), quote(e.key.text))
			continue
		}
		if d.isMap(e.value, "a stage") {
			h.Stages = append(h.Stages, d.hiveStage(e.key, e.value))
		}
	}
}

func (d *decoder) hiveStage(key, n *node) *HiveStage {
	s := &HiveStage{Position: key.pos, Name: key.text, SeparateRepository: true}
	d.require(RuleValue, n, "stage "+s.Name, "provider", "cidr")
	if v := n.get("provider"); v != nil {
		s.Provider = choice(d, v, "provider", "vagrant", "aws", "azure", "gcp", "openstack", "prepared", "kickstart")
	}
	if v := n.get("separate_repository"); v != nil {
		s.SeparateRepository = d.bool(v, "separate_repository")
	}
	number, addresses := n.get("number_of_hosts"), n.get("ip_address_list")
	switch {
	case addresses != nil:
		// As in hive-builder's code, the addresses say how many hosts there are.
		if d.isList(addresses, "ip_address_list") {
			s.Hosts = len(addresses.items)
		}
		if number != nil {
			if v := d.int(number, "number_of_hosts", 1, 1000); v > 0 && v != s.Hosts {
				d.complain(number.pos, "number_of_hosts is %d and ip_address_list has %d addresses", v, s.Hosts)
			}
		}
		number = addresses
	case number != nil:
		s.Hosts = d.int(number, "number_of_hosts", 1, 1000)
	case s.SeparateRepository:
		s.Hosts, number = 4, n
	default:
		s.Hosts, number = 3, n
	}
	if known := s.Hosts > 0 || number == addresses; known && s.ContainerHosts() < 1 {
		d.complain(number.pos, "stage %s has no host that holds containers: a separate repository takes the last one", s.Name)
	}
	return s
}
