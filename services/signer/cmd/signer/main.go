// Command signer runs the signer service as a process of its own.
package main

import (
	"github.com/postrider/postrider/services/signer"
	"github.com/postrider/postrider/shared/service"
)

func main() { service.Main(signer.Service) }
