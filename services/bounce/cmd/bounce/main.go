// Command bounce runs the bounce service as a process of its own.
package main

import (
	"github.com/postrider/postrider/services/bounce"
	"github.com/postrider/postrider/shared/service"
)

func main() { service.Main(bounce.Service) }
