package qemu

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"

	"github.com/hiveproof/hiveproof/provision/helper"
	"github.com/hiveproof/hiveproof/provision/image"
	"github.com/hiveproof/hiveproof/provision/remote"
	"github.com/hiveproof/hiveproof/provision/topology"
)

// identity is what tells one lab from another: keys and machine IDs. It is saved
// with a cluster, whose hosts know no other.
type identity struct {
	Control []byte         `json:"control"` // private key that the hosts let in, in OpenSSH's form
	Hosts   []hostIdentity `json:"hosts"`
}

type hostIdentity struct {
	Name      string `json:"name"`
	HostKey   []byte `json:"host_key"`   // private, in OpenSSH's form
	MachineID string `json:"machine_id"` // 32 hexadecimal digits
}

func newIdentity(hosts []topology.Host) (identity, error) {
	control, err := remote.NewKeyPair("hiveproof lab")
	if err != nil {
		return identity{}, err
	}
	id := identity{Control: control.PrivatePEM}
	for _, h := range hosts {
		key, err := remote.NewKeyPair(h.Name)
		if err != nil {
			return identity{}, err
		}
		machineID := make([]byte, 16)
		if _, err := rand.Read(machineID); err != nil {
			return identity{}, fmt.Errorf("%s: make a machine ID: %w", h.Name, err)
		}
		id.Hosts = append(id.Hosts, hostIdentity{Name: h.Name, HostKey: key.PrivatePEM, MachineID: hex.EncodeToString(machineID)})
	}
	return id, nil
}

// adopt gives the cluster and its hosts, which are off, an identity.
func (c *Cluster) adopt(id identity) error {
	control, err := remote.ParseKeyPair(id.Control)
	if err != nil {
		return err
	}
	if len(id.Hosts) != len(c.hosts) {
		return fmt.Errorf("the identity is of %d hosts, the cluster has %d", len(id.Hosts), len(c.hosts))
	}
	c.mu.Lock()
	c.identity = id
	c.mu.Unlock()
	for i, h := range c.hosts {
		own := id.Hosts[i]
		if own.Name != h.Name() {
			return fmt.Errorf("the identity is of a host %s, not %s", own.Name, h.Name())
		}
		key, err := remote.ParseKeyPair(own.HostKey)
		if err != nil {
			return fmt.Errorf("%s: %w", own.Name, err)
		}
		h.mu.Lock()
		h.publicKey = key.Authorized
		if c.cfg.overSSH {
			h.conn = remote.New(own.Name, h.dialSSH, control.Signer, key.Signer.PublicKey())
		} else {
			h.conn = helper.New(own.Name, h.dialHelper)
		}
		h.vmConfig.machineID = own.MachineID
		h.vmConfig.fwCfg = map[string][]byte{
			"authorized_keys": []byte(control.Authorized),
			"host_key":        own.HostKey,
			"identity":        []byte(c.guestIdentity(i)),
		}
		h.mu.Unlock()
	}
	return nil
}

// guestIdentity is what the guest's identity.sh reads.
func (c *Cluster) guestIdentity(i int) string {
	top, h := c.cfg.Topology, c.hosts[i]
	var text strings.Builder
	fmt.Fprintf(&text, "hostname %s\n", h.spec.Name)
	for _, other := range top.Hosts {
		fmt.Fprintf(&text, "host %s %s\n", other.Addr, other.Name)
	}
	fmt.Fprintf(&text, "addr %s eth0 %s\n", h.vmConfig.nics[0].mac, netip.PrefixFrom(h.spec.Addr, top.Site.Bits()))
	fmt.Fprintf(&text, "addr %s eth1 %s\n", h.vmConfig.nics[1].mac, netip.PrefixFrom(h.address, managementNet.Bits()))
	fmt.Fprintf(&text, "owner %s\n", controlAddr)
	fmt.Fprintf(&text, "gateway %s\n", top.Router())
	if h.spec.Edge {
		fmt.Fprintf(&text, "edge\n")
	}
	if h.spec.DiskMiB > image.DiskGiB<<10 {
		fmt.Fprintf(&text, "grow /dev/vda\n")
	}
	return text.String()
}
