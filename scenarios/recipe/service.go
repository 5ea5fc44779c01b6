package recipe

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// decode fills a Recipe from a file's tree.
func decode(r *Recipe, root *node, c *complaints) {
	d := &decoder{complaints: c, needed: make(map[*node]bool)}
	r.root, r.needed = root, d.needed
	d.file(r, root)
	d.assignPorts(r)
}

func (d *decoder) file(r *Recipe, root *node) {
	if root.kind != kindMap {
		d.report(RuleDefinition, root.pos, "a service definition must be a map, not %s", root.describe())
		return
	}
	plugin := root.get("plugin")
	switch {
	case plugin == nil:
		d.report(RuleDefinition, root.pos, "no plugin: a service definition says plugin: %s", Plugin)
		return
	case plugin.kind != kindString || plugin.text != Plugin:
		// It is some other file; its keys are not worth a word.
		d.report(RuleDefinition, plugin.pos, "plugin must be %s, not %s", Plugin, plugin.describe())
		return
	}
	r.Plugin = plugin.text
	for _, e := range root.entries {
		switch e.key.text {
		case "plugin", "services", "networks", "available_on":
		default:
			d.unknown(e.key, "a service definition", []string{"available_on", "networks", "plugin", "services"}, misplaced)
		}
	}
	availableOn := stages
	if n := root.get("available_on"); n != nil {
		availableOn = d.stages(n, "available_on")
	}
	d.networks(r, root.get("networks"))
	services := root.get("services")
	switch {
	case services == nil:
		d.report(RuleDefinition, root.pos, "no services: the file defines nothing")
	case services.kind != kindMap:
		d.report(RuleDefinition, services.pos, "services must be a map, not %s", services.describe())
	case len(services.entries) == 0:
		d.report(RuleDefinition, services.pos, "services is empty: the file defines nothing")
	default:
		for _, e := range services.entries {
			if d.complaints.full() {
				break
			}
			r.Services = append(r.Services, d.oneService(e.key, e.value, availableOn))
		}
	}
	d.service = ""
}

// misplaced explains a service's key that stands at the top level, where wrong
// indentation puts it.
func misplaced(key string) string {
	if _, ok := serviceKeys[key]; ok {
		return "it belongs to a service, check the indentation"
	}
	return ""
}

// A service's name is also its host name and its name in the DNS of the network.
var namePattern = regexp.MustCompile(`^[a-zA-Z0-9](?:[-_]*[a-zA-Z0-9])*$`)

func (d *decoder) oneService(key, n *node, availableOn []string) *Service {
	d.service = key.text
	s := &Service{
		Position:     key.pos,
		Name:         key.text,
		Mode:         ModeReplicated,
		Replicas:     1,
		EndpointMode: EndpointVIP,
		Networks:     []Attachment{{Name: DefaultNetwork}},
		AvailableOn:  slices.Clone(availableOn),
		keys:         n,
	}
	if len(s.Name) > 63 || !namePattern.MatchString(s.Name) {
		d.complain(key.pos, "%s is no service name: letters, digits, - and _ inside, at most 63", quote(s.Name))
	}
	fields(d, n, "a service", serviceKeys, s, inImage)
	if n.kind == kindMap && n.get("image") == nil {
		d.complain(key.pos, "service %s has no image", quote(s.Name))
	}
	return s
}

// inImage explains a key of image that stands beside it, as in the guide's first
// example as printed.
func inImage(key string) string {
	if _, ok := imageKeys[key]; ok {
		return "it belongs under image, check the indentation"
	}
	return ""
}

// serviceKeys are the keys that hive-builder takes in a service.
var serviceKeys = map[string]field[*Service]{
	"available_on":   func(d *decoder, s *Service, key string, n *node) { s.AvailableOn = d.stages(n, key) },
	"backup_scripts": (*decoder).backupScripts,
	"cap_add":        func(d *decoder, s *Service, key string, n *node) { s.CapAdd = d.list(n, key) },
	"cap_drop":       func(d *decoder, s *Service, key string, n *node) { s.CapDrop = d.list(n, key) },
	"command": func(d *decoder, s *Service, key string, n *node) {
		s.Command = d.command(n, key, d.listOrCommas)
	},
	"cpu_limit": (*decoder).cpuLimit,
	"dns":       func(d *decoder, s *Service, key string, n *node) { s.DNS = d.listOrCommas(n, key) },
	"endpoint_mode": func(d *decoder, s *Service, key string, n *node) {
		s.EndpointMode = choice(d, n, key, EndpointVIP, EndpointDNSRR)
	},
	"entrypoint": func(d *decoder, s *Service, key string, n *node) {
		s.Entrypoint = d.command(n, key, d.words)
	},
	"environment": func(d *decoder, s *Service, key string, n *node) { s.Environment = d.pairsOrList(n, key) },
	"healthcheck": func(d *decoder, s *Service, key string, n *node) {
		s.Healthcheck = &Healthcheck{}
		fields(d, n, key, healthcheckKeys, s.Healthcheck, nil)
	},
	"hosts":            func(d *decoder, s *Service, key string, n *node) { s.Hosts = d.pairs(n, key) },
	"ignore_error":     func(d *decoder, s *Service, key string, n *node) { s.IgnoreError = d.list(n, key) },
	"image":            (*decoder).image,
	"initialize_roles": func(d *decoder, s *Service, key string, n *node) { s.InitializeRoles = d.list(n, key) },
	"labels":           func(d *decoder, s *Service, key string, n *node) { s.Labels = d.jsonPairs(n, key) },
	"logging": func(d *decoder, s *Service, key string, n *node) {
		s.Logging = &Logging{}
		fields(d, n, key, loggingKeys, s.Logging, nil)
	},
	"mem_limit": func(d *decoder, s *Service, key string, n *node) { s.MemLimit = d.size(n, key, false) },
	"mode": func(d *decoder, s *Service, key string, n *node) {
		s.Mode = choice(d, n, key, ModeReplicated, ModeGlobal)
	},
	"monitor_error": func(d *decoder, s *Service, key string, n *node) { s.MonitorError = d.list(n, key) },
	"networks":      (*decoder).attachments,
	"placement": func(d *decoder, s *Service, key string, n *node) {
		fields(d, n, key, placementKeys, &s.Placement, nil)
	},
	"ports":    (*decoder).ports,
	"replicas": (*decoder).replicas,
	"restart_config": func(d *decoder, s *Service, key string, n *node) {
		s.RestartConfig = &RestartConfig{}
		fields(d, n, key, restartKeys, s.RestartConfig, nil)
	},
	"standalone": func(d *decoder, s *Service, key string, n *node) { s.Standalone = d.bool(n, key) },
	"stop_grace_period": func(d *decoder, s *Service, key string, n *node) {
		s.StopGracePeriod = d.duration(n, key)
	},
	"sysctls":     func(d *decoder, s *Service, key string, n *node) { s.Sysctls = d.sysctls(n, key) },
	"user":        func(d *decoder, s *Service, key string, n *node) { s.User = d.text(n, key) },
	"volumes":     (*decoder).volumes,
	"working_dir": func(d *decoder, s *Service, key string, n *node) { s.WorkingDir = d.word(n, key) },
}

// replicas reads the number of replicas; -1 is the documented way of not saying it.
func (d *decoder) replicas(s *Service, key string, n *node) {
	if n.kind == kindInt && n.text == "-1" {
		return
	}
	if v := d.int(n, key, 1, 10_000); v > 0 {
		s.Replicas = v
	}
}

func (d *decoder) cpuLimit(s *Service, key string, n *node) {
	if d.pending(n) {
		return
	}
	v, err := strconv.ParseFloat(n.text, 64)
	if err != nil || n.kind == kindMap || n.kind == kindList || !(v > 0 && v <= 4096) {
		d.complain(n.pos, "%s must be a number of CPUs such as 0.5, not %s", key, n.describe())
		return
	}
	s.CPULimit = v
}

// sysctls reads a map; numbers are what its values mostly are.
func (d *decoder) sysctls(n *node, key string) Pairs {
	if n.kind == kindList {
		return d.pairsOrList(n, key)
	}
	return d.pairsOf(n, key, d.text)
}

// backupScripts are kept as written; nothing here runs them.
func (d *decoder) backupScripts(s *Service, key string, n *node) {
	if !d.isList(n, key) {
		return
	}
	for _, item := range n.items {
		if d.isMap(item, "an element of "+key) {
			s.BackupScripts = append(s.BackupScripts, item.value().(map[string]any))
		}
	}
}

func (d *decoder) attachments(s *Service, key string, n *node) {
	if !d.isList(n, key) {
		return
	}
	s.Networks = nil
	for _, item := range n.items {
		a := Attachment{Position: item.pos}
		if item.kind == kindMap {
			fields(d, item, "an element of networks", attachmentKeys, &a, nil)
			if item.get("name") == nil {
				d.complain(item.pos, "an element of networks has no name")
			}
		} else {
			a.Name = d.word(item, "an element of networks")
		}
		s.Networks = append(s.Networks, a)
	}
}

var attachmentKeys = map[string]field[*Attachment]{
	"name":    func(d *decoder, a *Attachment, key string, n *node) { a.Name = d.word(n, key) },
	"aliases": func(d *decoder, a *Attachment, key string, n *node) { a.Aliases = d.list(n, key) },
}

var placementKeys = map[string]field[*Placement]{
	"constraints": func(d *decoder, p *Placement, key string, n *node) {
		p.Constraints = d.listOrCommas(n, key)
		for i, c := range p.Constraints {
			if !strings.Contains(c, "==") && !strings.Contains(c, "!=") && !strings.Contains(c, "{{") && c != "" {
				pos := n.pos
				if n.kind == kindList {
					pos = n.items[i].pos
				}
				d.complain(pos, "a constraint must be key==value or key!=value, not %s", quote(c))
			}
		}
	},
	"preferences": func(d *decoder, p *Placement, key string, n *node) {
		if !d.isList(n, key) {
			return
		}
		for _, item := range n.items {
			fields(d, item, "an element of preferences", preferenceKeys, p, nil)
		}
	},
	"replicas_max_per_node": func(d *decoder, p *Placement, key string, n *node) {
		p.MaxPerNode = d.int(n, key, 0, 10_000)
	},
}

var preferenceKeys = map[string]field[*Placement]{
	"spread": func(d *decoder, p *Placement, key string, n *node) { p.Spread = append(p.Spread, d.word(n, key)) },
}

var healthcheckKeys = map[string]field[*Healthcheck]{
	"test": func(d *decoder, h *Healthcheck, key string, n *node) {
		if n.kind == kindString {
			// The engine's own reading of a string: a line for the shell.
			h.Test = []string{"CMD-SHELL", d.word(n, key)}
			if n.text == "NONE" {
				h.Test = []string{"NONE"}
			}
			return
		}
		h.Test = d.list(n, key)
	},
	"interval":     func(d *decoder, h *Healthcheck, key string, n *node) { h.Interval = d.duration(n, key) },
	"timeout":      func(d *decoder, h *Healthcheck, key string, n *node) { h.Timeout = d.duration(n, key) },
	"start_period": func(d *decoder, h *Healthcheck, key string, n *node) { h.StartPeriod = d.duration(n, key) },
	"retries":      func(d *decoder, h *Healthcheck, key string, n *node) { h.Retries = d.int(n, key, 0, 1000) },
}

var restartKeys = map[string]field[*RestartConfig]{
	"condition": func(d *decoder, r *RestartConfig, key string, n *node) {
		r.Condition = choice(d, n, key, "any", "on-failure", "none")
	},
	"delay":        func(d *decoder, r *RestartConfig, key string, n *node) { r.Delay = d.duration(n, key) },
	"window":       func(d *decoder, r *RestartConfig, key string, n *node) { r.Window = d.duration(n, key) },
	"max_attempts": func(d *decoder, r *RestartConfig, key string, n *node) { r.MaxAttempts = d.int(n, key, 0, 1<<30) },
}

var loggingKeys = map[string]field[*Logging]{
	"driver":  func(d *decoder, l *Logging, key string, n *node) { l.Driver = d.word(n, key) },
	"options": func(d *decoder, l *Logging, key string, n *node) { l.Options = d.pairsOf(n, key, d.text) },
}

func (d *decoder) image(s *Service, key string, n *node) {
	s.Image = Image{Position: n.pos}
	switch n.kind {
	case kindString:
		s.Image.Tag = d.word(n, key)
	case kindMap:
		fields(d, n, key, imageKeys, &s.Image, nil)
		if n.get("from") == nil {
			d.complain(n.pos, "image needs from: the tag that it is built on")
		}
		if from, on := n.get("pull_from"), n.get("pull_on"); from != nil && on == nil {
			d.complain(from.pos, "pull_from needs pull_on: the stages that pull")
		}
	default:
		d.complain(n.pos, "image must be a tag or a map with from, not %s", n.describe())
	}
}

// imageKeys are the keys that hive-builder takes in an image that it builds.
var imageKeys = map[string]field[*Image]{
	"from":        func(d *decoder, i *Image, key string, n *node) { i.From = d.word(n, key) },
	"roles":       func(d *decoder, i *Image, key string, n *node) { i.Roles = d.list(n, key) },
	"env":         func(d *decoder, i *Image, key string, n *node) { i.Env = d.pairs(n, key) },
	"stop_signal": func(d *decoder, i *Image, key string, n *node) { i.StopSignal = d.text(n, key) },
	"user":        func(d *decoder, i *Image, key string, n *node) { i.User = d.text(n, key) },
	"working_dir": func(d *decoder, i *Image, key string, n *node) { i.WorkingDir = d.word(n, key) },
	"standalone":  func(d *decoder, i *Image, key string, n *node) { i.Standalone = d.bool(n, key) },
	"privileged":  func(d *decoder, i *Image, key string, n *node) { i.Privileged = d.bool(n, key) },
	"entrypoint":  func(d *decoder, i *Image, key string, n *node) { i.Entrypoint = d.command(n, key, d.words) },
	"command":     func(d *decoder, i *Image, key string, n *node) { i.Command = d.command(n, key, d.words) },
	"expose":      func(d *decoder, i *Image, key string, n *node) { i.Expose = d.list(n, key) },
	"pull_on":     func(d *decoder, i *Image, key string, n *node) { i.PullOn = d.stages(n, key) },
	"pull_from":   func(d *decoder, i *Image, key string, n *node) { i.PullFrom = d.word(n, key) },
}

// networks reads the declared networks and adds the default one.
func (d *decoder) networks(r *Recipe, n *node) {
	declared := false
	if n != nil && d.isMap(n, "networks") {
		for _, e := range n.entries {
			network := &Network{Position: e.key.pos, Name: e.key.text, Driver: "overlay"}
			if e.value.kind != kindNull {
				fields(d, e.value, "a network", networkKeys, network, nil)
			}
			declared = declared || network.Name == DefaultNetwork
			r.Networks = append(r.Networks, network)
		}
	}
	if !declared {
		r.Networks = append(r.Networks, &Network{Name: DefaultNetwork, Driver: "overlay"})
	}
}

var networkKeys = map[string]field[*Network]{
	"driver":      func(d *decoder, w *Network, key string, n *node) { w.Driver = d.word(n, key) },
	"driver_opts": func(d *decoder, w *Network, key string, n *node) { w.DriverOpts = d.pairsOf(n, key, d.text) },
	"ipam": func(d *decoder, w *Network, key string, n *node) {
		if n.kind != kindMap && n.kind != kindList {
			d.complain(n.pos, "ipam must be a map or a list, not %s", n.describe())
			return
		}
		w.IPAM = n.value()
	},
}
