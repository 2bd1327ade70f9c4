<?php
$routes = require '/app/routes.php';
foreach ($routes as $path => $name) {
    echo $path, ' ', strtoupper($name), "\n";
}
