package recipe

import (
	"slices"
	"strings"
)

// VolumeType is the type of a mount.
type VolumeType string

// The volume types.
const (
	TypeVolume VolumeType = "volume"
	TypeBind   VolumeType = "bind"
	TypeTmpfs  VolumeType = "tmpfs"
)

// Volume is a mount of a service. At most one of DRBD, NFS and Driver is set;
// with none of them a TypeVolume is created by the engine on each host as needed.
type Volume struct {
	Position Position
	Source   string // a volume's name, or a host's path; empty for a tmpfs
	Target   string // path in the container
	// Type, where the file leaves it out, is TypeBind for a source that is a path
	// and TypeVolume for one that is a name: the guide and hive-builder's
	// documentation give different defaults, and each is right for one of the two.
	Type       VolumeType
	ReadOnly   bool
	DRBD       *DRBD
	NFS        *NFS
	Driver     string // prepared by this volume driver on every host
	DriverOpts Pairs

	node *node
}

// At is where the file gives the key, or the volume's own position.
func (v *Volume) At(key string) Position { return keyPosition(v.node, key, v.Position) }

// ValueAt is where the key's value begins, or the volume's own position.
func (v *Volume) ValueAt(key string) Position { return valuePosition(v.node, key, v.Position) }

// Has reports whether the file gives the key.
func (v *Volume) Has(key string) bool { return v.node.get(key) != nil }

// Known reports whether the field of key holds what the file says, see
// Service.Known.
func (v *Volume) Known(key string) bool { return known(v.node, key) }

// DRBD is a replicated block device under the volume.
type DRBD struct {
	Position    Position
	FSType      string // xfs or ext4
	Size        string // as written, such as 500M
	Bytes       int64
	Diskless    []string // hosts without a replica
	DeviceID    int      // 1 to 255; 0 if hive-builder is to assign it
	AvailableOn []string // stages; nil is the service's

	node *node
}

// At is where the file gives the key, or where the map of drbd begins.
func (v *DRBD) At(key string) Position { return keyPosition(v.node, key, v.Position) }

// ValueAt is where the key's value begins, or the map of drbd.
func (v *DRBD) ValueAt(key string) Position { return valuePosition(v.node, key, v.Position) }

// Known reports whether the field of key holds what the file says, see
// Service.Known.
func (v *DRBD) Known(key string) bool { return known(v.node, key) }

// NFS is a file share of the cloud provider.
type NFS struct {
	Position    Position
	Size        string // as written; empty if not given
	Bytes       int64
	AvailableOn []string // stages; nil is the service's

	node *node
}

func (d *decoder) volumes(s *Service, key string, n *node) {
	if !d.isList(n, key) {
		return
	}
	for _, item := range n.items {
		if item.kind == kindString {
			d.report(RuleVolume, item.pos, "volume %s is in short syntax, which hive-builder refuses: write source and target", quote(item.text))
			continue
		}
		v := &Volume{Position: item.pos, node: item}
		d.watch(item, func() {
			fields(d, item, "a volume", volumeKeys, v, nil)
			if item.kind == kindMap {
				d.checkVolume(v)
				s.Volumes = append(s.Volumes, v)
			}
		})
	}
}

var volumeKeys = map[string]field[*Volume]{
	"source": func(d *decoder, v *Volume, key string, n *node) { v.Source = d.str(n, key) },
	"target": func(d *decoder, v *Volume, key string, n *node) { v.Target = d.str(n, key) },
	"type": func(d *decoder, v *Volume, key string, n *node) {
		v.Type = choice(d, n, key, TypeVolume, TypeBind, TypeTmpfs)
	},
	"readonly": func(d *decoder, v *Volume, key string, n *node) { v.ReadOnly = d.bool(n, key) },
	"drbd": func(d *decoder, v *Volume, key string, n *node) {
		v.DRBD = &DRBD{Position: n.pos, node: n}
		fields(d, n, key, drbdKeys, v.DRBD, nil)
		if n.kind == kindMap {
			d.require(RuleValue, n, key, "fstype", "size")
		}
	},
	"nfs": func(d *decoder, v *Volume, key string, n *node) {
		v.NFS = &NFS{Position: n.pos, node: n}
		fields(d, n, key, nfsKeys, v.NFS, nil)
	},
	"driver":      func(d *decoder, v *Volume, key string, n *node) { v.Driver = d.word(n, key) },
	"driver_opts": func(d *decoder, v *Volume, key string, n *node) { v.DriverOpts = d.pairsOf(n, key, d.text) },
}

var drbdKeys = map[string]field[*DRBD]{
	"fstype": func(d *decoder, v *DRBD, key string, n *node) { v.FSType = choice(d, n, key, "xfs", "ext4") },
	"size": func(d *decoder, v *DRBD, key string, n *node) {
		v.Size, v.Bytes = n.text, d.size(n, key, true)
	},
	"diskless":     func(d *decoder, v *DRBD, key string, n *node) { v.Diskless = d.list(n, key) },
	"device_id":    func(d *decoder, v *DRBD, key string, n *node) { v.DeviceID = d.int(n, key, 1, 255) },
	"available_on": func(d *decoder, v *DRBD, key string, n *node) { v.AvailableOn = d.stages(n, key) },
}

var nfsKeys = map[string]field[*NFS]{
	"size": func(d *decoder, v *NFS, key string, n *node) {
		v.Size, v.Bytes = n.text, d.size(n, key, true)
	},
	"available_on": func(d *decoder, v *NFS, key string, n *node) { v.AvailableOn = d.stages(n, key) },
}

// require complains about keys that a map must have.
func (d *decoder) require(rule string, n *node, what string, keys ...string) {
	for _, key := range keys {
		if n.get(key) == nil {
			d.report(rule, n.pos, "%s needs %s", what, key)
		}
	}
}

// checkVolume checks what the keys of a volume say together.
func (d *decoder) checkVolume(v *Volume) {
	d.require(RuleVolume, v.node, "a volume", "source", "target")
	var kinds []entry
	for _, e := range v.node.entries {
		if slices.Contains([]string{"drbd", "nfs", "driver"}, e.key.text) {
			kinds = append(kinds, e)
		}
	}
	if len(kinds) > 1 {
		d.report(RuleOneStorage, kinds[1].key.pos, "a volume has at most one of drbd, nfs and driver, and this one has %s already", kinds[0].key.text)
	}
	path := strings.HasPrefix(v.Source, "/")
	typ := v.node.get("type")
	if typ == nil {
		v.Type = TypeVolume
		if path && len(kinds) == 0 {
			v.Type = TypeBind
		}
	}
	source, target := v.node.get("source"), v.node.get("target")
	switch {
	case target == nil || target.kind != kindString || target.isTemplate() || strings.HasPrefix(v.Target, "/"):
	case v.Target == "":
		d.report(RuleVolume, target.pos, "target is empty")
	default:
		d.complain(target.pos, "target must be an absolute path, not %s", quote(v.Target))
	}
	if typ != nil && (typ.kind != kindString || VolumeType(typ.text) != v.Type) {
		return // complained about, or still a template
	}
	if typ != nil && len(kinds) > 0 && v.Type != TypeVolume {
		d.complain(typ.pos, "type must be volume with %s, not %s", kinds[0].key.text, v.Type)
		return
	}
	if source == nil || source.kind != kindString || source.isTemplate() {
		return
	}
	switch {
	case v.Type == TypeTmpfs:
	case v.Source == "":
		d.report(RuleVolume, source.pos, "source is empty")
	case v.Type == TypeBind && !path:
		d.complain(source.pos, "source of a bind volume must be an absolute path, not %s", quote(v.Source))
	case v.Type == TypeVolume && strings.Contains(v.Source, "/"):
		d.complain(source.pos, "source of a volume must be a name, not %s; a host's path needs type: bind", quote(v.Source))
	}
}
