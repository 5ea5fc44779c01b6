// Package agentimage makes container images of the agent, without an engine or
// a registry: one archive in docker-load format with a tag for each kind of
// image that the agent stands in for.
package agentimage

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Binary is the agent's path inside its images.
const Binary = "/hiveproof-agent"

// program is the file that FindBinary looks for.
const program = "hiveproof-agent"

// Listen is a port that an image listens on.
type Listen struct {
	App   string // what is spoken: dns, http or echo
	Port  int
	Proto string // tcp or udp
}

// Tag is one of the agent's images.
type Tag struct {
	Name string // such as "hiveproof/agent:dns"
	Role string // what it stands in for
	// Listens may be empty: then the service must set HIVEPROOF_LISTEN.
	Listens []Listen
}

// Tags are the agent's images. A container's ports are known from here; no
// engine has to be asked.
func Tags() []Tag {
	return []Tag{
		{Name: "hiveproof/agent:dns", Role: "dns", Listens: []Listen{{"dns", 53, "udp"}, {"dns", 53, "tcp"}}},
		{Name: "hiveproof/agent:http", Role: "web", Listens: []Listen{{"http", 80, "tcp"}}},
		{Name: "hiveproof/agent:mariadb", Role: "database", Listens: []Listen{{"echo", 3306, "tcp"}}},
		{Name: "hiveproof/agent:generic", Role: "generic"},
	}
}

// FindBinary looks for the agent's binary: $HIVEPROOF_AGENT, else beside this program.
func FindBinary() (string, error) {
	if path := os.Getenv("HIVEPROOF_AGENT"); path != "" {
		if _, err := os.Stat(path); err != nil {
			return "", fmt.Errorf("HIVEPROOF_AGENT: %w", err)
		}
		return path, nil
	}
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find the agent: %w", err)
	}
	path := filepath.Join(filepath.Dir(self), program)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("the agent's binary is not beside this program (%s): make build makes both, or set HIVEPROOF_AGENT", path)
	}
	return path, nil
}

// format changes when the archive made of one binary changes.
const format = 2

// Digest names the archive that Build makes of a binary, without making it.
func Digest(binary string) (string, error) {
	file, err := os.Open(binary)
	if err != nil {
		return "", fmt.Errorf("read the agent: %w", err)
	}
	defer file.Close()
	h := sha256.New()
	fmt.Fprintf(h, "%d %v\n", format, Tags())
	if _, err := io.Copy(h, file); err != nil {
		return "", fmt.Errorf("read the agent: %w", err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// Build writes the archive. The same binary gives the same bytes. It takes its
// name only when it is complete.
func Build(binary, archive string) error {
	layer, err := layerOf(binary)
	if err != nil {
		return fmt.Errorf("make the agent's image: %w", err)
	}
	images := map[name.Reference]v1.Image{}
	for _, t := range Tags() {
		tag, err := name.NewTag(t.Name)
		if err != nil {
			return fmt.Errorf("make the agent's image %s: %w", t.Name, err)
		}
		if images[tag], err = imageOf(t, layer); err != nil {
			return fmt.Errorf("make the agent's image %s: %w", t.Name, err)
		}
	}
	if err := os.MkdirAll(filepath.Dir(archive), 0o755); err != nil {
		return fmt.Errorf("make the agent's image: %w", err)
	}
	temp, err := os.CreateTemp(filepath.Dir(archive), filepath.Base(archive)+".*.part")
	if err != nil {
		return fmt.Errorf("make the agent's image: %w", err)
	}
	err = errors.Join(
		write(temp, images, layer),
		temp.Chmod(0o644), // the node image may be built by another user
		temp.Close(),
	)
	if err == nil {
		err = os.Rename(temp.Name(), archive)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write the agent's images: %w", err), os.Remove(temp.Name()))
	}
	return nil
}

// write writes what docker load reads: the images' configurations, their one
// layer and the manifest. tarball.MultiRefWrite would do, but for its order of the
// files, which changes from one call to the next.
func write(to io.Writer, images map[name.Reference]v1.Image, layer v1.Layer) error {
	manifest, err := tarball.ComputeManifest(images)
	if err != nil {
		return err
	}
	files := map[string][]byte{}
	if files["manifest.json"], err = json.Marshal(manifest); err != nil {
		return err
	}
	content, err := layer.Compressed()
	if err != nil {
		return err
	}
	defer content.Close()
	if files[manifest[0].Layers[0]], err = io.ReadAll(content); err != nil {
		return err
	}
	for _, img := range images {
		id, err := img.ConfigName()
		if err != nil {
			return err
		}
		if files[id.String()], err = img.RawConfigFile(); err != nil {
			return err
		}
	}
	w := tar.NewWriter(to)
	for _, path := range slices.Sorted(maps.Keys(files)) {
		if err := writeFile(w, path, 0o644, files[path]); err != nil {
			return err
		}
	}
	return w.Close()
}

func writeFile(w *tar.Writer, path string, mode int64, content []byte) error {
	header := &tar.Header{Name: path, Mode: mode, Size: int64(len(content)), Typeflag: tar.TypeReg, Format: tar.FormatUSTAR}
	if err := w.WriteHeader(header); err != nil {
		return err
	}
	_, err := w.Write(content)
	return err
}

// layerOf is the one file of every image. It is not compressed: unpacking under
// emulation takes longer than reading.
func layerOf(binary string) (v1.Layer, error) {
	content, err := os.ReadFile(binary)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := errors.Join(writeFile(w, strings.TrimPrefix(Binary, "/"), 0o755, content), w.Close()); err != nil {
		return nil, err
	}
	return static.NewLayer(b.Bytes(), types.DockerUncompressedLayer), nil
}

func imageOf(t Tag, layer v1.Layer) (v1.Image, error) {
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return nil, err
	}
	ports := map[string]struct{}{}
	var listens []string
	for _, l := range t.Listens {
		ports[fmt.Sprintf("%d/%s", l.Port, l.Proto)] = struct{}{}
		listens = append(listens, fmt.Sprintf("%s:%d/%s", l.App, l.Port, l.Proto))
	}
	env := []string{"HIVEPROOF_ROLE=" + t.Role}
	if listens != nil {
		env = append(env, "HIVEPROOF_LISTEN="+strings.Join(listens, ","))
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.Architecture, config.OS = "amd64", "linux"
	config.Config = v1.Config{
		// The service's command becomes the agent's arguments, as with the real image.
		Entrypoint:   []string{Binary},
		Env:          env,
		ExposedPorts: ports,
	}
	return mutate.ConfigFile(img, config)
}
