<?php
$routes = ['/' => 'home', '/about' => 'about'];
file_put_contents('/app/routes.php', '<?php return ' . var_export($routes, true) . ";\n");
echo count($routes), " routes\n";
